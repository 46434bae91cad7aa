"""The validation slice: some windows of the validation set, whose loss is computed every so often while training.

It draws the curve between the epochs' ends, where the whole set is evaluated. Size and places follow from the steps and
the batch size alone, so a resumed training computes the same losses at the same steps.

A step computes three forward passes' worth: one forward, two backward. So on `count` windows at `points` steps the
slice costs count * points / (3 * batch_size * steps) of the training, which SHARE bounds. The passes here are not
compiled, because that would take longer than they do. SHARE leaves room for that: they should take less than 2 %.
"""

from math import isqrt

import numpy as np

from tinystories.common.params import Train
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.batches import IntArray

SHARE = 0.01  # of the training's computation, at most
POINTS = 30  # in one training; fewer where SHARE does not allow one window for each
MAX_WINDOWS = 1024  # a signal waits for the whole slice


def _shape(train: Train) -> tuple[int, int]:
    """At how many steps the slice is evaluated, and its windows. (0, 0) where a training is too short for one."""
    budget = int(3 * SHARE * train.batch_size * train.steps)
    points = min(POINTS, budget)
    count = min(budget // points, MAX_WINDOWS) if points else 0
    if count > train.batch_size:
        count -= count % train.batch_size  # full batches alone are fast on a GPU
    return points, count


def is_due(step: int, last_logged: int, train: Train) -> bool:
    """Whether the slice is evaluated with the row of this step. `last_logged`: the step of the row before.

    The points lie at the squares of equal distances, dense at first, where the loss falls fast; the last is the end.
    """
    points, _ = _shape(train)
    before, now = (isqrt(points**2 * at // train.steps) for at in (last_logged, step))
    return now > before


def slice_windows(tokens: TokenArray, context_length: int, train: Train) -> IntArray:
    """The windows, spread evenly over the file; fewer where it is small. Shape: (windows, context_length + 1)."""
    _, count = _shape(train)
    available = (len(tokens) - 1) // context_length
    count = min(count, available)
    starts = np.arange(count) * available // max(count, 1) * context_length
    windows: IntArray = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    return windows
