"""The learning-rate schedule. Needs nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinystories.training.schedule import lr_factor, trunk_end, warn_of_long_warmup


@given(warmup=st.integers(0, 200), cooldown=st.floats(0, 1), epochs=st.integers(1, 3), steps=st.integers(1, 60))
def test_lr_factor_rises_stays_and_falls(small_params, warmup, cooldown, epochs, steps):
    """Also where it falls before it has risen."""
    train = small_params.train.model_copy(
        update={"warmup_steps": warmup, "cooldown": cooldown, "epochs": epochs, "steps_per_epoch": steps}
    )
    factors = [lr_factor(step, train) for step in range(train.steps)]
    assert all(0 < factor <= 1 for factor in factors)
    # After the peak it never rises, before it never falls.
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    for step, factor in enumerate(factors):
        if warmup <= step <= (1 - cooldown) * train.steps - 1e-6:
            assert factor == pytest.approx(1)


@pytest.mark.parametrize(
    ("warmup", "cooldown", "expected"),
    [
        (0, 0.0, [1, 1, 1, 1, 1]),
        (5, 0.0, [0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 1.0, [1.0, 0.8, 0.6, 0.4, 0.2]),
        (2, 0.4, [0.5, 1, 1, 1, 0.5]),
        (1, 0.8, [1, 1, 0.75, 0.5, 0.25]),
        (10, 0.4, [0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_lr_factor_of_five_steps(small_params, warmup, cooldown, expected):
    update = {"warmup_steps": warmup, "cooldown": cooldown, "epochs": 1, "steps_per_epoch": 5}
    train = small_params.train.model_copy(update=update)
    assert [lr_factor(step, train) for step in range(5)] == pytest.approx(expected)


def test_lr_factor_is_almost_0_at_the_last_step(small_params):
    train = small_params.train.model_copy(update={"steps_per_epoch": 20_000, "warmup_steps": 400, "cooldown": 0.5})
    assert lr_factor(39_999, train) == pytest.approx(1 / 20_000)
    assert lr_factor(40_000, train) == 0


@given(
    warmup=st.integers(0, 300),
    cooldown=st.floats(0, 1),
    steps=st.integers(1, 300),
    others=st.tuples(st.floats(0, 1), st.integers(1, 300)),
)
def test_trunk_end_is_where_the_length_begins_to_matter(small_params, warmup, cooldown, steps, others):
    """Until there every training of the same warm-up whose cooldown begins no earlier has the same factors."""
    base = small_params.train.model_copy(update={"warmup_steps": warmup, "epochs": 1})
    train = base.model_copy(update={"cooldown": cooldown, "steps_per_epoch": steps})
    end = trunk_end(train)
    assert 0 < end <= steps
    assert end == steps or (steps - end) / (cooldown * steps) < 1 <= (steps - end + 1) / (cooldown * steps)
    other = base.model_copy(update={"cooldown": others[0], "steps_per_epoch": others[1]})
    shared = min(end, trunk_end(other))
    assert [lr_factor(step, train) for step in range(shared)] == [lr_factor(step, other) for step in range(shared)]


@pytest.mark.parametrize(
    ("epochs", "steps", "cooldown", "end"),
    [(2, 20_000, 0.5, 20_000), (4, 20_000, 0.5, 40_000), (2, 500, 0.2, 800), (1, 7, 0.0, 7), (1, 7, 1.0, 1)],
)
def test_trunk_end_of_the_presets(small_params, epochs, steps, cooldown, end):
    """After the last step at the full rate: the first of the cooldown has that still."""
    train = small_params.train.model_copy(update={"epochs": epochs, "steps_per_epoch": steps, "cooldown": cooldown})
    assert trunk_end(train) == end + (0 < cooldown < 1)


def test_warn_of_long_warmup_where_the_peak_is_not_reached(small_params, capsys):
    train = small_params.train.model_copy(update={"epochs": 2, "steps_per_epoch": 500})
    for warmup in (0, 501):
        warn_of_long_warmup(train.model_copy(update={"warmup_steps": warmup}))
    assert capsys.readouterr().out == ""
    warn_of_long_warmup(train.model_copy(update={"warmup_steps": 502}))
    said = capsys.readouterr().out
    assert "train.warmup_steps is 502" in said and "dvc exp run -S train.warmup_steps=10" in said
