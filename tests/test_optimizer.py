"""The optimizer beside PyTorch's own, and the schedule of the rates."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tinystories import optimizer as module
from tinystories.model import GPT
from tinystories.optimizer import BETA1, BETA2, MATRICES, MOMENTUM, Optimizer, orthogonalize, schedule
from tinystories.params import Params, Train

STEPS = 5


def settings_of(params: Params, **values: Any) -> Train:
    """The training's parameters with rates that stay at their peak."""
    flat = {"warmup": 0.0, "cooldown": 0.0, "steps_per_epoch": 1_000}
    return params.train.model_copy(update=flat | values)


def give_gradients(model: GPT, step: int, size: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in model.parameters():
        weight.grad = size * torch.randn(weight.shape, generator=generator)


def after_steps(model: GPT, train: Train) -> dict[str, Tensor]:
    optimizer = Optimizer(model, train)
    for step in range(STEPS):
        give_gradients(model, step)
        optimizer.step(step)
    return {name: weight.detach() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("name", MATRICES)
def test_each_matrix_moves_as_with_pytorchs_muon(random_model, small_params, monkeypatch, name, weight_decay):
    train = settings_of(small_params, learning_rate=0.02, weight_decay=weight_decay)
    before = random_model()
    ours = after_steps(random_model(), train)[name].flatten(0, -3)
    # PyTorch's Muon works in bf16; both compute in fp32 here, so that they can be compared closely.
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.float)
    stacked = dict(before.named_parameters())[name].detach().flatten(0, -3)
    for place, matrix in enumerate(stacked):
        theirs = torch.nn.Parameter(matrix.clone())
        muon = torch.optim.Muon(
            [theirs],
            lr=0.02,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=weight_decay,
            ns_coefficients=module.NEWTON_SCHULZ,
            ns_steps=module.NEWTON_SCHULZ_STEPS,
            eps=1e-7,
            adjust_lr_fn="original",
        )
        scratch = random_model()
        for step in range(STEPS):
            give_gradients(scratch, step)
            gradient = dict(scratch.named_parameters())[name].grad
            assert gradient is not None
            theirs.grad = gradient.flatten(0, -3)[place]
            muon.step()
        assert (theirs - matrix).abs().max() > 0.01
        assert torch.allclose(ours[place], theirs, atol=2e-5)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_other_weights_move_as_with_pytorchs_adamw(random_model, small_params, weight_decay):
    """Without decay: it is for the matrices only."""
    train = settings_of(small_params, embedding_learning_rate=0.004, weight_decay=weight_decay)
    ours = after_steps(random_model(), train)
    model = random_model()
    others = {name: weight for name, weight in model.named_parameters() if name not in MATRICES}
    assert set(others) == {"embedding", *(name for name in ours if name.startswith("norm"))}
    adamw = torch.optim.AdamW(others.values(), lr=0.004, betas=(BETA1, BETA2), eps=module.ADAM_EPSILON, weight_decay=0)
    for step in range(STEPS):
        give_gradients(model, step)
        adamw.step()
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
    assert 0.5 < values.min() < values.max() < 1.3
    # The singular vectors stay: the result still points where the gradient did.
    assert (torch.einsum("...ij,...ij->...", found, matrices) > 0).all()


def test_orthogonalize_takes_each_matrix_for_itself():
    matrices = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    single = orthogonalize(matrices[1, 2][None], torch.float32)[0]
    assert torch.allclose(orthogonalize(matrices, torch.float32)[1, 2], single, atol=1e-6)


def test_orthogonalize_leaves_zero_as_it_is():
    assert not orthogonalize(torch.zeros(2, 4, 4), torch.bfloat16).any()


def test_no_gradient_means_no_change(random_model, small_params):
    model = random_model()
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    Optimizer(model, small_params.train).step(0)
    assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


def all_gradients(model: GPT) -> Tensor:
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e4])
def test_gradients_are_scaled_down_together(random_model, small_params, size):
    model = random_model()
    give_gradients(model, 0, size)
    before = all_gradients(model).clone()
    norm = Optimizer(model, settings_of(small_params, gradient_clip=1.0)).clip()
    assert norm.shape == ()
    assert norm.item() == pytest.approx(before.norm().item(), rel=1e-5)
    assert torch.allclose(all_gradients(model), before * min(1, 1 / before.norm().item()), rtol=1e-4)


def test_clipping_can_be_switched_off(random_model, small_params):
    model = random_model()
    give_gradients(model, 0, 1e4)
    before = all_gradients(model).clone()
    norm = Optimizer(model, settings_of(small_params, gradient_clip=0.0)).clip()
    assert norm.item() == pytest.approx(before.norm().item(), rel=1e-5)
    assert torch.equal(all_gradients(model), before)


def test_the_rates_follow_the_schedule(random_model, small_params):
    """Twice the factor, twice the way: with the same gradients, at the first step."""
    moved = []
    for step in (0, 1):
        model = random_model()
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        optimizer = Optimizer(model, settings_of(small_params, warmup=0.01))  # 20 steps of warmup
        give_gradients(model, 0)
        for name in [*optimizer.state]:
            if name.startswith(("mean", "square")):  # AdamW's own correction for the first steps is not of the rate
                del optimizer.state[name]
        optimizer._weights = {name: weight for name, weight in optimizer._weights.items() if name in MATRICES}
        optimizer.step(step)
        moved.append({name: weight - before[name] for name, weight in model.named_parameters() if name in MATRICES})
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
