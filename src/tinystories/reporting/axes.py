"""The logarithmic loss axis of the figure, and its perplexity axis on the right."""

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator

from tinystories.reporting.series import Array

GRID_COLOR = "#DDDDDD"
MIN_LOSS = 1e-6  # a logarithmic axis has no 0


def set_loss_range(axes: Axes, losses: Array) -> None:
    """Scale the axis logarithmically: it shows the first losses near ln(vocabulary) and leaves room to the last."""
    low, high = np.log(np.maximum([losses.min(), losses.max()], MIN_LOSS))
    span = max(high - low, 0.05)
    axes.set_yscale("log", nonpositive="clip")
    # Room below for the final figures, above for the epochs' labels: neither may lie on a line.
    axes.set_ylim(np.exp(low - 0.17 * span), np.exp(high + 0.10 * span))
    fine = [digit * 10.0**power for power in range(-6, 4) for digit in (1.2, 1.4, 1.6, 1.8, 2.5, 3.5)]
    plain = [digit * 10.0**power for digit in (1, 2, 5, 3, 4, 1.5, 7, 6, 8, 9) for power in range(-6, 4)]
    ticks = _ticks(axes, [*plain, *fine], lambda loss: loss)
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:.6g}" for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)


def add_perplexity_axis(axes: Axes) -> None:
    """Add the axis on the right, which reads the same lines as exp(loss)."""
    right = axes.twinx()
    right.set_yscale("log")
    right.set_ylim(axes.get_ylim())
    near_one = [1.0 + digit * 10.0**-power for power in range(1, 7) for digit in (1, 2, 5)]
    tens = [digit * 10.0**power for digit in (1, 2, 5, 3) for power in range(300)]
    ticks = _ticks(right, [*tens, 1.5, *near_one], np.log)
    right.yaxis.set_major_locator(FixedLocator([float(np.log(tick)) for tick in ticks]))
    right.yaxis.set_major_formatter(
        FixedFormatter(
            [f"{tick:,.6g}" if tick < 1e6 else f"{tick:.0e}".replace("e+0", "e").replace("e+", "e") for tick in ticks]
        )
    )
    right.yaxis.set_minor_locator(NullLocator())
    right.set_ylabel("perplexity")


def _ticks(axes: Axes, candidates: Iterable[float], loss_of: Callable[[float], float]) -> list[float]:
    """Choose ticks in view and apart from each other, the first of the `candidates` first.

    In a range so narrow that fewer than four of them fit: any round numbers.
    """
    low, high = axes.get_ylim()
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
