"""plot.png: loss and perplexity against the tokens seen, with the learning rate below."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.files import atomic_write
from tinystories.reporting.axes import GRID_COLOR, add_perplexity_axis, set_loss_range
from tinystories.reporting.formats import format_perplexity, short_count
from tinystories.reporting.series import Array, column, decimate, label_every, smooth, with_warmup

WIDTH, HEIGHT, DPI = 10.0, 5.625, 160  # inches and pixels an inch: 1600 × 900 pixels
BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#555555"  # Okabe and Ito's colour-blind-safe palette, and grey
WARMUP_COLOR = "#F0E442"  # its yellow
MAX_EPOCH_LINES = 60


def plot_run(history: list[HistoryRow], epochs: list[EpochRow], target: Path, title: str, warmup: float = 0.0) -> None:
    """Draw the run into the PNG file `target`: same rows, same bytes. Both tables need at least one row.

    `warmup`: the share of all steps over which the learning rate rises from 0.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the user's own style: the same run gives the same picture everywhere
        figure = draw_run(history, epochs, title, warmup)
        with atomic_write(target) as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def draw_run(history: list[HistoryRow], epochs: list[EpochRow], title: str, warmup: float = 0.0) -> Figure:
    """The figure of `plot_run`: axes 0 losses, 1 learning rate, 2 perplexity (the right side of 0)."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(5, 1))
    tokens, loss, rate = (column(history, name) for name in ("tokens", "loss", "learning_rate"))

    scored = [row for row in history if row.valid_slice_loss is not None]
    _draw_training_loss(losses, tokens, loss)
    _draw_validation_loss(losses, scored, epochs)
    every_loss = [loss, column(scored, "valid_slice_loss"), column(epochs, "valid_loss")]
    set_loss_range(losses, np.concatenate(every_loss))
    add_perplexity_axis(losses)
    _mark_epochs(losses, epochs)
    _annotate_final(losses, epochs[-1])
    losses.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=28)
    losses.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, frameon=False, fontsize=10, columnspacing=1.4)

    _draw_rates(rates, tokens, rate, warmup * epochs[-1].tokens)
    end = max(tokens[-1], epochs[-1].tokens)
    rates.set_xlim(-0.01 * end, 1.015 * end)  # room on the left for a steep rise
    rates.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10]))
    rates.xaxis.set_major_formatter(FuncFormatter(lambda count, _: short_count(count)))
    rates.set_xlabel("tokens seen")
    for axes in figure.axes:
        axes.spines["top"].set_visible(False)
        axes.tick_params(which="both", length=0, labelsize=10)
        for spine in axes.spines.values():
            spine.set_color("#AAAAAA")
    rates.spines["right"].set_visible(False)
    return figure


def _draw_training_loss(axes: Axes, tokens: Array, loss: Array) -> None:
    smoothed = smooth(loss)
    line: dict[str, Any] = {"color": BLUE, "linewidth": 1.8, "marker": "o" if len(loss) < 30 else "", "markersize": 3.5}
    if np.array_equal(smoothed, loss):
        axes.plot(tokens, loss, label="training loss", **line)
    else:
        kept = decimate(loss)
        axes.plot(tokens[kept], loss[kept], color=BLUE, alpha=0.35, linewidth=0.7, label="training loss as logged")
        kept = decimate(smoothed)
        axes.plot(tokens[kept], smoothed[kept], label="training loss, smoothed", **line)
    axes.set_ylabel("loss (nats per token)")


def _draw_validation_loss(axes: Axes, scored: list[HistoryRow], epochs: list[EpochRow]) -> None:
    """Draw a line of what was measured on the slice, and a point where the whole set was: they differ a little."""
    if scored:
        axes.plot(
            column(scored, "tokens"),
            column(scored, "valid_slice_loss"),
            color=VERMILLION,
            linewidth=1.2,
            marker=".",
            markersize=3.5,
            label="validation loss, slice",
            zorder=3.5,
        )
    axes.plot(
        column(epochs, "tokens"),
        column(epochs, "valid_loss"),
        color=VERMILLION,
        linestyle="none",
        marker="o",
        markersize=6.5 if len(epochs) <= 12 else 3,
        markeredgecolor="white",
        markeredgewidth=0.8 if len(epochs) <= 12 else 0.3,
        label="validation loss, whole set",
        zorder=4,
    )


def _draw_rates(axes: Axes, tokens: Array, rate: Array, warmup_tokens: float) -> None:
    highest = float(rate.max()) or 1.0
    tokens, rate = with_warmup(tokens, rate, warmup_tokens)
    if warmup_tokens:
        axes.axvspan(0, warmup_tokens, color=WARMUP_COLOR, alpha=0.6, linewidth=0, zorder=0.5)
        early = warmup_tokens < tokens[-1] / 2  # then there is room on its right, below the line
        axes.annotate(
            f"warm-up, {short_count(warmup_tokens)} tokens",
            (warmup_tokens, 0.08 * highest),
            (6 if early else -6, 0),
            textcoords="offset points",
            ha="left" if early else "right",
            fontsize=9,
            color=GREY,
        )
    kept = decimate(rate)
    axes.plot(tokens[kept], rate[kept], color=GREY, linewidth=1.2, marker="." if len(rate) == 1 else "")
    axes.set_ylim(0, 1.15 * highest)
    axes.set_yticks([0, highest], ["0", f"{highest:.3g}"])
    axes.set_ylabel("learning\nrate")


def _mark_epochs(axes: Axes, epochs: list[EpochRow]) -> None:
    every = label_every(len(epochs))
    for row in epochs:
        labelled = row.epoch % every == 0
        if labelled or len(epochs) <= MAX_EPOCH_LINES:
            axes.axvline(row.tokens, color=GRID_COLOR, linewidth=0.8, zorder=0.5)
        if labelled:
            place = axes.get_xaxis_transform()
            style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 9, "color": GREY}
            label = axes.annotate(f"epoch {row.epoch:,}", (row.tokens, 1), (-4, -3), place, "offset points", **style)
            label.set_in_layout(False)


def _annotate_final(axes: Axes, last: EpochRow) -> None:
    label = axes.annotate(
        f"final validation: loss {last.valid_loss:.4f} · PPL {format_perplexity(last.valid_ppl)} · "
        f"{last.valid_bits_per_byte:.4f} bits per byte",
        (last.tokens, last.valid_loss),
        xytext=(0.985, 0.035),
        textcoords="axes fraction",
        ha="right",
        va="bottom",
        fontsize=11,
        fontweight="bold",
        color=VERMILLION,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )
    label.set_in_layout(False)  # it lies inside the axes, which need not shrink where its figures are long
