"""The optimizer, compared with PyTorch's Muon and NAdam. Needs nothing."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.model.gpt import GPT
from tinystories.training.optimizer import MATRICES, Optimizer, OptimizerConfig, init_state, orthogonalize

STEPS = 5
PEAK = torch.tensor(1.0)  # the schedule's factor


def make_config(**values: Any) -> OptimizerConfig:
    return replace(OptimizerConfig(0.02, 0.004, weight_decay=0.1, gradient_clip=0.0), **values)


def make_grads(model: GPT, step: int, size: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: size * torch.randn(weight.shape, generator=generator) for name, weight in model.named_parameters()}


def weights_after_steps(model: GPT, config: OptimizerConfig) -> dict[str, Tensor]:
    optimizer = Optimizer(model, config)
    for step in range(STEPS):
        optimizer.update(make_grads(model, step), torch.tensor(step), PEAK)
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", MATRICES)
def test_update_of_matrices_is_pytorchs_muon(random_model, monkeypatch, name, weight_decay):
    # PyTorch's has one polynomial for all steps and scales matrices by their norm. With this one both converge.
    polynomial, steps = (15 / 8, -10 / 8, 3 / 8), 30
    config = make_config(weight_decay=weight_decay, polar_express=(polynomial,) * steps, polar_express_margin=1.0)
    shape = ModelConfig(context_length=12, embedding_size=48, layers=2, heads=3)
    assert shape.mlp_size == 128
    before = random_model(shape)

    def matrices(weight: Tensor) -> list[Tensor]:
        """Split into what is orthogonalized separately: queries and keys by head, neurons by 64, or whole matrices."""
        if name == "qkv_proj":
            queries_and_keys, values = weight[:, :2], weight[:, 2]
            return [*queries_and_keys.unflatten(2, (shape.heads, -1)).flatten(0, 2), *values]
        if name == "gate_up_proj":
            return list(weight.unflatten(2, (-1, 64)).flatten(0, 2))
        return list(weight.flatten(0, -3))

    ours = matrices(weights_after_steps(random_model(shape), config)[name])
    # PyTorch's Muon works in bf16; both compute in fp32 here, so that they can be compared closely.
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)
    for place, matrix in enumerate(matrices(dict(before.named_parameters())[name].detach())):
        theirs = torch.nn.Parameter(matrix.clone())
        muon = torch.optim.Muon(
            [theirs],
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=True,
            weight_decay=weight_decay,
            ns_coefficients=polynomial,
            ns_steps=steps,
            eps=1e-7,
            adjust_lr_fn="original",
        )
        scratch = random_model(shape)
        for step in range(STEPS):
            theirs.grad = matrices(make_grads(scratch, step)[name])[place]
            muon.step()
        assert (theirs - matrix).abs().max() > 0.01
        assert torch.allclose(ours[place], theirs, atol=2e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_update_of_other_weights_is_pytorchs_nadam(random_model, weight_decay):
    """The embedding, which is a matrix, decays; norm weights do not."""
    config = make_config(weight_decay=weight_decay)
    ours = weights_after_steps(random_model(), config)
    model = random_model()
    others = {name: weight for name, weight in model.named_parameters() if name not in MATRICES}
    assert set(others) == {"embedding", *(name for name in ours if name.endswith("norm"))}
    norm_weights = [weight for name, weight in others.items() if name != "embedding"]
    groups = [
        {"params": [others["embedding"]], "weight_decay": weight_decay},
        {"params": norm_weights, "weight_decay": 0.0},
    ]
    # PyTorch warms its momentum up; with this decay it does not.
    nadam = torch.optim.NAdam(
        groups,
        config.embedding_learning_rate,
        (config.beta1, config.beta2),
        config.epsilon,
        momentum_decay=1e6,
        decoupled_weight_decay=True,
    )
    for step in range(STEPS):
        for name, gradient in make_grads(model, step).items():
            if name in others:
                others[name].grad = gradient
        nadam.step()
    for name, theirs in others.items():
        assert torch.allclose(ours[name], theirs, atol=1e-6), name


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 40), (3, 40, 8), (2, 3, 12, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_sets_singular_values_to_about_1(shape, dtype):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonalize(matrices, dtype, make_config())
    assert found.shape == matrices.shape
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert 0.4 < values.min() < values.max() < 1.4
    # The singular vectors stay: the result still points where the gradient did.
    assert (torch.einsum("...ij,...ij->...", found, matrices) > 0).all()


def test_orthogonalize_of_rank_1_does_not_diverge():
    """Rounded to bf16 it is a little more than 1, beyond which the polynomials run away."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(1000, 8, 1, generator=generator) @ torch.randn(1000, 1, 8, generator=generator)
    assert 0.4 < torch.linalg.matrix_norm(orthogonalize(matrices, torch.bfloat16, make_config()), 2).max() < 1.6


def test_orthogonalize_treats_matrices_separately():
    matrices = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    single = orthogonalize(matrices[1, 2][None], torch.float32, make_config())[0]
    assert torch.allclose(orthogonalize(matrices, torch.float32, make_config())[1, 2], single, atol=1e-6)


def test_orthogonalize_of_zeros_is_zeros():
    assert not orthogonalize(torch.zeros(2, 4, 4), torch.bfloat16, make_config()).any()


def test_update_leaves_weights_without_gradients(random_model):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = Optimizer(model, make_config())
    optimizer.update({"embedding": make_grads(model, 0)["embedding"]}, torch.tensor(0), PEAK)
    assert [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])] == ["embedding"]


def first_update(model: GPT, config: OptimizerConfig, grads: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Return the gradients' norm, and each weight's average of gradients."""
    optimizer = Optimizer(model, config)
    norm = optimizer.update(grads, torch.tensor(0), PEAK)
    assert norm.shape == ()
    kinds = {name: "momentum_buffer" if name in MATRICES else "exp_avg" for name in grads}
    return norm.item(), {name: optimizer.state[f"{kind}.{name}"] for name, kind in kinds.items()}


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_update_clips_gradients_together(random_model, size):
    """Seen in the averages, which begin as a fraction of the first gradient."""
    grads = make_grads(random_model(), 0, size)
    norm = torch.cat([grad.flatten() for grad in grads.values()]).norm().item()
    clipped_norm, clipped = first_update(random_model(), make_config(gradient_clip=1.0), grads)
    free_norm, free = first_update(random_model(), make_config(gradient_clip=0.0), grads)
    assert clipped_norm == free_norm == pytest.approx(norm, rel=1e-5)
    for name in grads:
        assert torch.allclose(clipped[name], free[name] * min(1, 1 / norm), rtol=1e-4), name


def test_update_is_proportional_to_lr_factor(random_model):
    """Twice the factor, twice the change: of every weight, with the same gradients, at the first step."""
    changes = []
    for factor in (0.05, 0.1):
        model = random_model()
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        Optimizer(model, make_config()).update(make_grads(model, 0), torch.tensor(0), torch.tensor(factor))
        changes.append({name: weight - before[name] for name, weight in model.named_parameters()})
    for name in changes[0]:
        assert changes[0][name].any()
        assert torch.allclose(2 * changes[0][name], changes[1][name], atol=1e-6), name


def test_state_is_fp32_zeros_by_name(random_model):
    state = init_state(random_model())
    assert {name.split(".")[0] for name in state} == {"momentum_buffer", "exp_avg", "exp_avg_sq"}
    assert all(tensor.dtype == torch.float32 and not tensor.any() for tensor in state.values())


def test_config_takes_the_parameters(small_params):
    train = small_params.train
    config = OptimizerConfig.from_params(small_params)
    assert (config.learning_rate, config.embedding_learning_rate) == (
        train.learning_rate,
        train.embedding_learning_rate,
    )
    assert (config.weight_decay, config.gradient_clip) == (train.weight_decay, train.gradient_clip)
    twice = small_params.model_copy(update={"train": train.model_copy(update={"batch_size": 2 * train.batch_size})})
    assert OptimizerConfig.from_params(twice).epsilon == config.epsilon / 2, "gradients are means over the batch"
