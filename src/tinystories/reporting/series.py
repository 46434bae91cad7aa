"""Long series of numbers, smoothed or with fewer points."""

from typing import Any

import numpy as np

MAX_POINTS = 2_000  # a line is not wider than this many pixels

Array = np.ndarray[Any, np.dtype[Any]]


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


def decimate(values: Array) -> Array:
    """Indices of the rows to draw: the lowest and the highest of each stretch, the first and the last of all."""
    if len(values) <= MAX_POINTS:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), MAX_POINTS // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))
