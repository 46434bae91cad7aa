"""The series of numbers that are drawn: from rows, smoothed, with fewer points."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.params import Train

MAX_POINTS = 2_000  # a line is not wider than this many pixels
MAX_LABELLED_EPOCHS = 10

Array = np.ndarray[Any, np.dtype[Any]]


def warmup_share(train: Train) -> float:
    """The share of all steps over which the learning rate rises."""
    return min(train.warmup_steps / train.steps, 1.0)


def column(rows: Sequence[HistoryRow | EpochRow], name: str) -> Array:
    """One value of each row."""
    return np.array([getattr(row, name) for row in rows], dtype=float)


def smooth(values: Array) -> Array:
    """Centred moving average over at most 4 % of the rows. Fewer than 50 rows stay as they are.

    The window grows with the row number, because the loss falls ever more slowly: a fixed window would bend the steep
    beginning, and an exponential average would lag behind.
    """
    count = len(values)
    rows = np.arange(count)
    half = np.minimum(rows // 8, count // 50)
    start, end = rows - half, np.minimum(rows + half, count - 1) + 1
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(np.where(half == 0, values, (total[end] - total[start]) / (end - start)))


def decimate(values: Array, most: int = MAX_POINTS) -> Array:
    """Indices of the rows to draw: the lowest and the highest of each stretch, the first and the last of all."""
    if len(values) <= most:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), most // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))


def with_warmup(tokens: Array, rate: Array, warmup_tokens: float) -> tuple[Array, Array]:
    """The learning rate's line with the beginning and the end of its rise, which may end before the first row."""
    if not warmup_tokens:
        return tokens, rate
    rise = [0.0, warmup_tokens] if warmup_tokens < tokens[0] else [0.0]
    return np.concatenate([rise, tokens]), np.concatenate([[0.0, rate[0]][: len(rise)], rate])


def label_every(epochs: int) -> int:
    """Of so many epochs, each which one has a label: 1, 2, 5, 10 and so on, so that ten have one."""
    steps = (digit * int(10**power) for power in range(9) for digit in (1, 2, 5))
    return next(step for step in steps if epochs <= step * MAX_LABELLED_EPOCHS)
