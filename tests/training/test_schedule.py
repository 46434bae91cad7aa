"""The learning-rate schedule. Needs nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinystories.training.schedule import lr_factor


@given(warmup=st.floats(0, 1), fraction=st.floats(0, 1), epochs=st.integers(1, 3), steps=st.integers(1, 60))
def test_lr_factor_rises_stays_and_falls(small_params, warmup, fraction, epochs, steps):
    cooldown = fraction * (1 - warmup)
    train = small_params.train.model_copy(
        update={"warmup": warmup, "cooldown": cooldown, "epochs": epochs, "steps_per_epoch": steps}
    )
    factors = [lr_factor(step, train) for step in range(train.steps)]
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
def test_lr_factor_of_five_steps(small_params, warmup, cooldown, expected):
    update = {"warmup": warmup, "cooldown": cooldown, "epochs": 1, "steps_per_epoch": 5}
    train = small_params.train.model_copy(update=update)
    assert [lr_factor(step, train) for step in range(5)] == pytest.approx(expected)


def test_lr_factor_is_almost_0_at_the_last_step(small_params):
    train = small_params.train.model_copy(update={"steps_per_epoch": 20_000, "warmup": 0.01, "cooldown": 0.5})
    assert lr_factor(39_999, train) == pytest.approx(1 / 20_000)
    assert lr_factor(40_000, train) == 0
