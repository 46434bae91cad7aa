"""The scale of a run's losses, logarithmic: its range, its ticks, and those of the perplexity beside it."""

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.ticker import MaxNLocator

from tinystories.reporting.series import Array

MIN_LOSS = 1e-6  # a logarithmic scale has no 0

Ticks = list[tuple[float, str]]  # losses, and what stands beside them


def loss_range(losses: Array) -> tuple[float, float]:
    """The lowest and the highest loss in view: from the first, near ln(vocabulary), with room to the last."""
    low, high = np.log(np.maximum([losses.min(), losses.max()], MIN_LOSS))
    span = max(high - low, 0.05)
    # Room below for the final figures, above for the epochs' labels: neither may lie on a line.
    return float(np.exp(low - 0.17 * span)), float(np.exp(high + 0.10 * span))


def loss_ticks(low: float, high: float) -> Ticks:
    """Round losses in view."""
    fine = [digit * 10.0**power for power in range(-6, 4) for digit in (1.2, 1.4, 1.6, 1.8, 2.5, 3.5)]
    plain = [digit * 10.0**power for digit in (1, 2, 5, 3, 4, 1.5, 7, 6, 8, 9) for power in range(-6, 4)]
    return [(tick, f"{tick:.6g}") for tick in _ticks(low, high, [*plain, *fine], lambda loss: loss)]


def perplexity_ticks(low: float, high: float) -> Ticks:
    """The losses in view whose perplexity exp(loss) is round."""
    near_one = [1.0 + digit * 10.0**-power for power in range(1, 7) for digit in (1, 2, 5)]
    tens = [digit * 10.0**power for digit in (1, 2, 5, 3) for power in range(300)]
    ticks = _ticks(low, high, [*tens, 1.5, *near_one], np.log)
    return [
        (
            float(np.log(tick)),
            f"{tick:,.6g}" if tick < 1e6 else f"{tick:.0e}".replace("e+0", "e").replace("e+", "e"),
        )
        for tick in ticks
    ]


def _ticks(low: float, high: float, candidates: Iterable[float], loss_of: Callable[[float], float]) -> list[float]:
    """Choose ticks in view and apart from each other, the first of the `candidates` first.

    In a range so narrow that fewer than four of them fit: any round numbers.
    """
    taken: list[float] = []
    gap = np.log(high / low) / 14
    for tick in candidates:
        loss = loss_of(tick)
        if low <= loss <= high and all(abs(np.log(loss / loss_of(other))) >= gap for other in taken):
            taken.append(tick)
    if len(taken) >= 4:
        return sorted(taken)
    if loss_of(2.0) != 2.0:  # perplexities, which end where a float does
        low_tick, high_tick = np.exp(np.minimum([low, high], 700.0))
    else:
        low_tick, high_tick = low, high
    found = [float(tick) for tick in MaxNLocator(6).tick_values(low_tick, high_tick) if tick > 0]
    return [tick for tick in found if low <= loss_of(tick) <= high]
