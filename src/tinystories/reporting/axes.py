"""The logarithmic loss axis of the figure, and its perplexity axis on the right."""

from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from tinystories.reporting.scale import Ticks, loss_range, loss_ticks, perplexity_ticks
from tinystories.reporting.series import Array

GRID_COLOR = "#DDDDDD"


def set_loss_range(axes: Axes, losses: Array) -> None:
    """Scale the axis logarithmically: it shows the first losses near ln(vocabulary) and leaves room to the last."""
    low, high = loss_range(losses)
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(low, high)
    _set_ticks(axes, loss_ticks(low, high))
    axes.grid(axis="y", color=GRID_COLOR, linewidth=0.6)
    axes.set_axisbelow(True)


def add_perplexity_axis(axes: Axes) -> None:
    """Add the axis on the right, which reads the same lines as exp(loss)."""
    right = axes.twinx()
    right.set_yscale("log")
    right.set_ylim(axes.get_ylim())
    _set_ticks(right, perplexity_ticks(*axes.get_ylim()))
    right.set_ylabel("perplexity")


def _set_ticks(axes: Axes, ticks: Ticks) -> None:
    axes.yaxis.set_major_locator(FixedLocator([loss for loss, _ in ticks]))
    axes.yaxis.set_major_formatter(FixedFormatter([label for _, label in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
