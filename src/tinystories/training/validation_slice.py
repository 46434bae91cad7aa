"""The validation slice: some windows of the validation set, whose loss is computed every so often while training.

It draws the curve between the epochs' ends, where the whole set is evaluated. Its windows follow from the batch size
alone, its points from the steps so far: a resumed training computes the same losses at the same steps, and so does a
longer one in the steps that they share.

A step computes three forward passes' worth: one forward, two backward. So `points` evaluations of one batch cost
points / (3 * steps) of the training so far, which SHARE bounds. The passes here are not compiled, because that would
take longer than they do. SHARE leaves room for that: they should take less than 2 %.
"""

from math import ceil

import numpy as np

from tinystories.tokenization.token_files import TokenArray
from tinystories.training.batches import IntArray

SHARE = 0.01  # of the training's computation, at most
SPACING = ceil(1 / (3 * SHARE))  # steps between two points, at least; so the first is a training's 34th step
GROWTH = 10  # a point comes a tenth later than the one before, once that is more
MAX_WINDOWS = 1024  # a signal waits for the whole slice


def is_due(step: int, last_logged: int) -> bool:
    """Whether the slice is evaluated with the row of this step. `last_logged`: the step of the row before."""
    point = SPACING
    while point <= last_logged:
        point += max(SPACING, point // GROWTH)
    return point <= step


def slice_windows(tokens: TokenArray, context_length: int, batch_size: int) -> IntArray:
    """The windows, spread evenly over the file; fewer where it is small. Shape: (windows, context_length + 1)."""
    available = (len(tokens) - 1) // context_length
    count = min(batch_size, MAX_WINDOWS, available)
    starts = np.arange(count) * available // count * context_length
    windows: IntArray = tokens[starts[:, None] + np.arange(context_length + 1)].astype(np.int64)
    return windows
