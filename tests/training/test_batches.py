"""The order of the data: without replacement, and a function of the seed and the step alone."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinystories.tokenization.token_files import TokenArray
from tinystories.training.batches import WindowSampler

CONTEXTS = st.integers(2, 9)
BATCHES = st.integers(1, 40)
SEEDS = st.integers(0, 2**63 - 1)


def row(count: int) -> TokenArray:
    return np.arange(count, dtype=np.uint16)


def order(windows: WindowSampler, batch: int, first: int, count: int) -> list[int]:
    """Where the windows start, for `count` windows from number `first` on, over all passes."""
    steps = range(first // batch, -(-(first + count) // batch))
    seen = np.concatenate([windows.starts(step) for step in steps])
    return seen[first - steps[0] * batch :][:count].tolist()  # type: ignore[no-any-return]


@given(tokens=st.integers(10, 500), context=CONTEXTS, batch=BATCHES, seed=SEEDS, pass_number=st.integers(0, 5))
def test_starts_have_every_window_once_in_a_pass(tokens, context, batch, seed, pass_number):
    windows = WindowSampler(row(tokens), context, batch, seed)
    assert windows.count == (tokens - 1) // context
    starts = sorted(order(windows, batch, pass_number * windows.count, windows.count))
    offset = starts[0]
    assert 0 <= offset < context
    assert pass_number or offset == 0
    assert starts == [min(offset + number * context, tokens - 1 - context) for number in range(windows.count)]


def test_starts_have_another_offset_in_each_pass():
    windows = WindowSampler(row(501), 5, 10, seed=1)
    offsets = [min(order(windows, 10, number * 100, 100)) for number in range(40)]
    assert offsets[0] == 0
    assert set(offsets) == set(range(5))


@given(seed=SEEDS, passes=st.integers(2, 12))
def test_starts_have_offsets_far_from_each_other(seed, passes):
    windows = WindowSampler(row(1281), 128, 10, seed)
    cuts = sorted(min(order(windows, 10, number * windows.count, windows.count)) for number in range(passes))
    assert cuts[0] == 0
    distances = np.diff([*cuts, 128])
    assert min(distances) >= 128 / passes / 2.7  # random places would now and then be the same


@given(tokens=st.integers(10, 500), context=CONTEXTS, batch=BATCHES, steps=st.lists(st.integers(0, 60), min_size=1))
def test_batches_depend_on_seed_and_step_alone(tokens, context, batch, steps):
    used = WindowSampler(row(tokens), context, batch, 3)
    for step in steps:
        fresh = WindowSampler(row(tokens), context, batch, 3)
        assert used.starts(step).tolist() == fresh.starts(step).tolist()
        assert np.array_equal(used.batches(step, 3)[1], fresh.batches(step + 1, 1)[0])


@given(tokens=st.integers(10, 500), context=CONTEXTS, batch=BATCHES, step=st.integers(0, 60))
def test_batches_have_inputs_and_targets_in_one_row(tokens, context, batch, step):
    windows = WindowSampler(row(tokens), context, batch, 0)
    (rows,) = windows.batches(step, 1)
    assert rows.shape == (batch, context + 1)
    assert rows.dtype == np.int64
    # The tokens count up from 0, so that each is its place.
    assert np.array_equal(rows[:, :-1], windows.starts(step)[:, None] + np.arange(context))
    assert np.array_equal(rows[:, 1:], rows[:, :-1] + 1)


def test_batches_predict_every_token_once_in_a_pass():
    windows = WindowSampler(row(103), 5, 4, 0)  # 20 windows of 5; tokens 101 and 102 are the rest
    predicted = windows.batches(0, 5)[..., 1:].ravel()
    assert sorted(predicted.tolist()) == list(range(1, 101))


def test_count_includes_a_window_that_ends_with_the_corpus():
    assert WindowSampler(row(101), 5, 4, 0).count == 20
    assert WindowSampler(row(100), 5, 4, 0).count == 19


def test_starts_have_another_order_in_each_pass_and_seed():
    windows = WindowSampler(row(501), 5, 10, seed=1)
    orders = [order(windows, 10, number * 100, 100) for number in range(4)]
    orders += [order(WindowSampler(row(501), 5, 10, seed), 10, 0, 100) for seed in (0, 2, 2**63 - 1)]
    assert len({tuple(o) for o in orders}) == len(orders)
    assert list(range(0, 500, 5)) not in orders


def test_starts_are_those_recorded():
    """Another order would change every result, and break the resuming of older trainings."""
    windows = WindowSampler(row(101), 5, 8, seed=1337)
    assert [windows.starts(step).tolist() for step in (0, 2)] == [
        [60, 95, 55, 30, 35, 45, 15, 50],
        [75, 85, 0, 5, 95, 43, 83, 93],  # four of the first pass, four of the second, which has an offset of 3
    ]


def test_starts_of_a_batch_larger_than_the_corpus():
    seen = WindowSampler(row(16), 5, 10, 0).starts(0).tolist()
    passes = [sorted(seen[first : first + 3]) for first in (0, 3, 6)]
    assert passes[0] == [0, 5, 10]
    assert all(starts == [starts[0], starts[0] + 5, 10] for starts in passes)  # no further than the corpus goes


def test_batches_take_tokens_beyond_int16():
    assert (WindowSampler(np.full(20, 65_535, np.uint16), 5, 2, 0).batches(0, 1) == 65_535).all()
