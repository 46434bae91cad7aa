"""The optimizer beside PyTorch's own, and the schedule of the rates."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinystories.common.params import ModelConfig, Params, Train
from tinystories.model.gpt import GPT
from tinystories.training import optimizer as module
from tinystories.training.optimizer import BETA1, BETA2, MATRICES, MOMENTUM, Optimizer, orthogonalize, schedule

STEPS = 5


def settings_of(params: Params, **values: Any) -> Train:
    """The training's parameters with rates that stay at their peak."""
    flat = {"warmup": 0.0, "cooldown": 0.0, "gradient_clip": 0.0, "steps_per_epoch": 1_000}
    return params.train.model_copy(update=flat | values)


def gradients_of(model: GPT, step: int, size: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return {name: size * torch.randn(weight.shape, generator=generator) for name, weight in model.named_parameters()}


def after_steps(model: GPT, train: Train) -> dict[str, Tensor]:
    optimizer = Optimizer(model, train)
    for step in range(STEPS):
        optimizer.update(gradients_of(model, step), torch.tensor(step))
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", MATRICES)
def test_each_matrix_moves_as_with_pytorchs_muon(random_model, small_params, monkeypatch, name, weight_decay):
    # PyTorch's has one polynomial for all steps and scales matrices by their norm. With this one both converge.
    polynomial, steps = (15 / 8, -10 / 8, 3 / 8), 30
    monkeypatch.setattr(module, "POLAR_EXPRESS", (polynomial,) * steps)
    monkeypatch.setattr(module, "POLAR_EXPRESS_MARGIN", 1.0)
    train = settings_of(small_params, learning_rate=0.02, weight_decay=weight_decay)
    config = ModelConfig(context_length=12, embedding_size=48, layers=2, heads=3)
    assert config.mlp_size == 128
    before = random_model(config)

    def matrices(weight: Tensor) -> list[Tensor]:
        """What is orthogonalised for itself: queries and keys by head, neurons by 64, all else as it stands."""
        if name == "qkv_proj":
            queries_and_keys, values = weight[:, :2], weight[:, 2]
            return [*queries_and_keys.unflatten(2, (config.heads, -1)).flatten(0, 2), *values]
        if name == "gate_up_proj":
            return list(weight.unflatten(2, (-1, 64)).flatten(0, 2))
        return list(weight.flatten(0, -3))

    ours = matrices(after_steps(random_model(config), train)[name])
    # PyTorch's Muon works in bf16; both compute in fp32 here, so that they can be compared closely.
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)
    for place, matrix in enumerate(matrices(dict(before.named_parameters())[name].detach())):
        theirs = torch.nn.Parameter(matrix.clone())
        muon = torch.optim.Muon(
            [theirs],
            lr=0.02,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=weight_decay,
            ns_coefficients=polynomial,
            ns_steps=steps,
            eps=1e-7,
            adjust_lr_fn="original",
        )
        scratch = random_model(config)
        for step in range(STEPS):
            theirs.grad = matrices(gradients_of(scratch, step)[name])[place]
            muon.step()
        assert (theirs - matrix).abs().max() > 0.01
        assert torch.allclose(ours[place], theirs, atol=2e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
def test_the_other_weights_move_as_with_pytorchs_nadam(random_model, small_params, weight_decay):
    """The embedding, which is a matrix, decays; the norms' gains do not."""
    train = settings_of(small_params, embedding_learning_rate=0.004, weight_decay=weight_decay)
    ours = after_steps(random_model(), train)
    model = random_model()
    others = {name: weight for name, weight in model.named_parameters() if name not in MATRICES}
    assert set(others) == {"embedding", *(name for name in ours if name.startswith("norm"))}
    gains = [weight for name, weight in others.items() if name != "embedding"]
    groups = [
        {"params": [others["embedding"]], "weight_decay": weight_decay},
        {"params": gains, "weight_decay": 0.0},
    ]
    # PyTorch's begins with less momentum, so much sooner over that it never is.
    nadam = torch.optim.NAdam(
        groups, 0.004, (BETA1, BETA2), module.ADAM_EPSILON, momentum_decay=1e6, decoupled_weight_decay=True
    )
    for step in range(STEPS):
        for name, gradient in gradients_of(model, step).items():
            if name in others:
                others[name].grad = gradient
        nadam.step()
    for name, theirs in others.items():
        assert torch.allclose(ours[name], theirs, atol=1e-6), name


@pytest.mark.parametrize("shape", [(3, 16, 16), (3, 8, 40), (3, 40, 8), (2, 3, 12, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalize_makes_all_singular_values_about_one(shape, dtype):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    found = orthogonalize(matrices, dtype)
    assert found.shape == matrices.shape
    assert found.dtype == torch.float32
    values = torch.linalg.svdvals(found)
    assert 0.4 < values.min() < values.max() < 1.4
    # The singular vectors stay: the result still points where the gradient did.
    assert (torch.einsum("...ij,...ij->...", found, matrices) > 0).all()


def test_orthogonalize_does_not_diverge_where_one_singular_value_is_all():
    """Rounded to bf16 it is a little more than 1, beyond which the polynomials run away."""
    generator = torch.Generator().manual_seed(0)
    matrices = torch.randn(1000, 8, 1, generator=generator) @ torch.randn(1000, 1, 8, generator=generator)
    assert 0.4 < torch.linalg.matrix_norm(orthogonalize(matrices, torch.bfloat16), 2).max() < 1.6


def test_orthogonalize_takes_each_matrix_for_itself():
    matrices = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    single = orthogonalize(matrices[1, 2][None], torch.float32)[0]
    assert torch.allclose(orthogonalize(matrices, torch.float32)[1, 2], single, atol=1e-6)


def test_orthogonalize_leaves_zero_as_it_is():
    assert not orthogonalize(torch.zeros(2, 4, 4), torch.bfloat16).any()


def test_no_gradient_means_no_change(random_model, small_params):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    optimizer = Optimizer(model, small_params.train)
    given = {name: gradient for name, gradient in gradients_of(model, 0).items() if name == "embedding"}
    optimizer.update(given, torch.tensor(0))
    assert [name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])] == ["embedding"]


def memory_after(model: GPT, train: Train, gradients: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    optimizer = Optimizer(model, train)
    norm = optimizer.update(gradients, torch.tensor(0))
    assert norm.shape == ()
    return norm.item(), {name: optimizer.state[f"{kind}.{name}"] for name in gradients for kind in [memory_of(name)]}


def memory_of(name: str) -> str:
    return "momentum" if name in MATRICES else "mean"


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_gradients_are_scaled_down_together(random_model, small_params, size):
    """Seen in the optimizer's memory, which begins as a share of the first gradient."""
    gradients = gradients_of(random_model(), 0, size)
    real = torch.cat([gradient.flatten() for gradient in gradients.values()]).norm().item()
    clipped_norm, clipped = memory_after(random_model(), settings_of(small_params, gradient_clip=1.0), gradients)
    free_norm, free = memory_after(random_model(), settings_of(small_params, gradient_clip=0.0), gradients)
    assert clipped_norm == free_norm == pytest.approx(real, rel=1e-5)
    for name in gradients:
        assert torch.allclose(clipped[name], free[name] * min(1, 1 / real), rtol=1e-4), name


def test_the_rates_follow_the_schedule(random_model, small_params):
    """Twice the factor, twice the way: with the same gradients, at the first step."""
    moved = []
    for step in (0, 1):
        model = random_model()
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        optimizer = Optimizer(model, settings_of(small_params, warmup=0.01))  # 20 steps of warmup
        optimizer.update(gradients_of(model, 0), torch.tensor(step))
        moved.append({name: weight - before[name] for name, weight in model.named_parameters()})
    for name in MATRICES:
        assert torch.allclose(2 * moved[0][name], moved[1][name], atol=1e-6), name


def test_memory_is_fp32_and_named(random_model, small_params):
    state = Optimizer(random_model(), small_params.train).state
    assert {name.split(".")[0] for name in state} == {"momentum", "mean", "square"}
    assert all(tensor.dtype == torch.float32 and not tensor.any() for tensor in state.values())


@given(warmup=st.floats(0, 1), share=st.floats(0, 1), epochs=st.integers(1, 3), steps=st.integers(1, 60))
def test_the_schedule_rises_stays_and_falls(small_params, warmup, share, epochs, steps):
    cooldown = share * (1 - warmup)
    train = small_params.train.model_copy(
        update={"warmup": warmup, "cooldown": cooldown, "epochs": epochs, "steps_per_epoch": steps}
    )
    factors = [schedule(step, train) for step in range(train.steps)]
    assert all(0 < factor <= 1 for factor in factors)
    # After the peak it never rises, before it never falls.
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    for step, factor in enumerate(factors):
        if warmup * train.steps <= step <= (1 - cooldown) * train.steps - 1e-6:
            assert factor == pytest.approx(1)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),
    [
        (0.0, 0.0, [1, 1, 1, 1, 1]),
        (1.0, 0.0, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.0, 1.0, [1.0, 0.8, 0.6, 0.4, 0.2]),
        (0.4, 0.4, [0.5, 1, 1, 1, 0.5]),
        (0.2, 0.8, [1, 1, 0.75, 0.5, 0.25]),
    ],
)
def test_the_schedule_of_five_steps(small_params, warmup, cooldown, expected):
    update = {"warmup": warmup, "cooldown": cooldown, "epochs": 1, "steps_per_epoch": 5}
    train = small_params.train.model_copy(update=update)
    assert [schedule(step, train) for step in range(5)] == pytest.approx(expected)


def test_the_last_step_of_a_long_training_is_almost_still(small_params):
    train = small_params.train.model_copy(update={"steps_per_epoch": 20_000, "warmup": 0.01, "cooldown": 0.5})
    assert schedule(39_999, train) == pytest.approx(1 / 20_000)
    assert schedule(40_000, train) == 0
