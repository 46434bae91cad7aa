"""compare.png: the curves of several runs in one picture, with their ranking below."""

import warnings
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinystories.common.files import atomic_write
from tinystories.reporting.axes import add_perplexity_axis, set_loss_range
from tinystories.reporting.comparison import Comparison, as_text
from tinystories.reporting.formats import short_count
from tinystories.reporting.series import decimate, smooth

# Okabe and Ito's colour-blind-safe palette without its yellow; compare.css has the same.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333")
DASHES = ("-", "--", ":")  # when the colours come again
WIDTH, CURVES, LINE, DPI = 11.0, 5.2, 0.19, 150  # inches: the whole, the curves' height, a line of text
CHARACTERS = 124  # of a line of the table, of this size


def plot_comparison(comparison: Comparison, target: Path) -> None:
    """Draw the runs into the PNG file `target`."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in any script
        figure = draw_comparison(comparison)
        with atomic_write(target) as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def draw_comparison(comparison: Comparison) -> Figure:
    """The figure of `plot_comparison`: axes 0 losses, 1 the table, 2 perplexity (the right side of 0)."""
    lines = as_text(comparison.columns, comparison.rows, CHARACTERS) + comparison.notes
    below = LINE * (len(lines) + 1)
    figure = Figure(figsize=(WIDTH, CURVES + below), layout="constrained")
    losses, table = figure.subplots(2, 1, height_ratios=(CURVES, below))
    every_loss = []
    for number, entry in reversed(list(enumerate(comparison.entries))):  # the best on top
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        if entry.run.losses:
            tokens, loss = np.array(entry.run.losses).T
            smoothed = smooth(loss)
            kept = decimate(smoothed)
            losses.plot(tokens[kept], smoothed[kept], dash, color=colour, linewidth=1.3, alpha=0.8)
            every_loss.append(loss)
        if entry.run.scores:
            tokens, loss, _ = np.array(entry.run.scores).T
            losses.plot(tokens, loss, "o", color=colour, markersize=6, markeredgecolor="white", zorder=4)
            every_loss.append(loss)
    if every_loss:
        set_loss_range(losses, np.concatenate(every_loss))
        add_perplexity_axis(losses)
    losses.set_title(
        "Lines: training loss, smoothed. Points: validation loss after each epoch.", loc="left", fontsize=10
    )
    losses.set_ylabel("loss (nats per token)")
    losses.set_xlabel("tokens seen")
    losses.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    losses.xaxis.set_major_formatter(FuncFormatter(lambda count, _: short_count(count)))
    for axes in figure.axes:
        axes.tick_params(which="both", length=0, labelsize=9)
        for place, spine in axes.spines.items():
            spine.set_visible(place != "top" and axes is not table)
            spine.set_color("#AAAAAA")
    table.set_xticks([])
    table.set_yticks([])
    _write_table(table, lines, len(comparison.entries))
    return figure


def _write_table(axes: matplotlib.axes.Axes, lines: list[str], runs: int) -> None:
    """Write each line literally, those of the runs after a piece of their curve."""
    axes.set_xlim(0, 1)
    axes.set_ylim(len(lines) + 0.5, -0.5)
    for number, line in enumerate(lines):
        text = axes.text(0.04, number, line, family="monospace", fontsize=8, va="center", parse_math=False)
        text.set_in_layout(False)
        if 1 <= number <= runs:
            colour, dash = COLOURS[(number - 1) % len(COLOURS)], DASHES[(number - 1) // len(COLOURS) % len(DASHES)]
            axes.plot([0.0, 0.03], [number, number], dash, color=colour, linewidth=2)
