"""Which epochs of a long training are shown."""

import numpy as np

MAX_EPOCHS_WITH_SAMPLES = 6


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` indices below `count`, evenly spaced, the first and the last included."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most))})


def epochs_with_samples(epochs: int) -> list[int]:
    """The numbers, from 1, of the epochs after which samples are shown; the last is the training's last.

    `train` keeps their weights, `evaluate` generates their samples, the report shows them.
    """
    return [index + 1 for index in evenly_spaced(epochs, MAX_EPOCHS_WITH_SAMPLES)]
