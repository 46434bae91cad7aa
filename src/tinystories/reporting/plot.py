"""The curves: their tables read and checked, and plot.png, loss and perplexity against the tokens seen."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from tinystories.common.errors import UserError, shorten
from tinystories.common.files import atomic_write
from tinystories.common.reading import read_csv

HISTORY_COLUMNS = ("step", "tokens", "loss", "learning_rate", "gradient_norm", "tokens_per_second", "seconds")
EPOCH_COLUMNS = (
    "epoch", "train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte", "step", "tokens", "seconds",
)  # fmt: skip

WIDTH, HEIGHT, DPI = 10.0, 5.625, 160  # inches and pixels an inch: 1600 × 900 pixels
BLUE, VERMILLION, GREY, LIGHT = "#0072B2", "#D55E00", "#555555", "#DDDDDD"  # Okabe and Ito's colour-blind-safe palette
MAX_POINTS = 2_000  # a line is not wider than this many pixels
MAX_LABELLED_EPOCHS = 10
MAX_EPOCH_LINES = 60
MIN_LOSS = 1e-6  # the logarithmic axis has no 0
MAX_VALUE = 1e15  # of any count, rate or loss: beyond it a figure is damaged, and no axis holds it
MAX_PERPLEXITY = 1e305  # e^700, at which `scoring.perplexity` ends, and a little

Array = np.ndarray[Any, np.dtype[Any]]


def read_table(path: Path, columns: tuple[str, ...], stage: str = "train") -> pd.DataFrame:
    """Read a CSV file with at least one row, whose `columns` are all there and hold numbers that a run could give.

    Errors: UserError with the file, what is wrong where, and the stage that writes it.
    """
    remedy = f"run the stage that writes it again (dvc repro -f -s {stage})"
    rows = read_csv(path, stage)
    if not rows:
        raise UserError(f"{path}: no row below the header; {remedy}")
    table = pd.DataFrame(rows, dtype=str)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise UserError(f"{path}: no column {', '.join(missing)}; {remedy}")
    numbers = table[list(columns)].apply(pd.to_numeric, errors="coerce")
    for column in columns:
        values = numbers[column].to_numpy(dtype=float)
        largest = MAX_PERPLEXITY if column.endswith("_ppl") else MAX_VALUE
        bad = np.flatnonzero(~((values >= 0) & (values <= largest)))
        if bad.size:
            found = f"{column} is {shorten(table[column].iloc[bad[0]])!r} in row {bad[0] + 1}"
            raise UserError(f"{path}: {found}, expected a finite number from 0 to {largest:g}; {remedy}")
    return pd.DataFrame(numbers)


def plot_run(history: pd.DataFrame, epochs: pd.DataFrame, target: Path, title: str = "GPT") -> None:
    """Draw the run into the PNG file `target`: same tables, same bytes.

    `history` has the columns of reports/history.csv, `epochs` those of reports/epochs.csv; both have at least one row.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # not the user's own style, so that the same run gives the same picture everywhere
        figure = draw_run(history, epochs, title)
        with atomic_write(target) as file:
            figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})


def draw_run(history: pd.DataFrame, epochs: pd.DataFrame, title: str) -> Figure:
    """The figure of `plot_run`: axes 0 losses, 1 learning rate, 2 perplexity (the right side of 0)."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    losses, rates = figure.subplots(2, 1, sharex=True, height_ratios=(6, 1))
    tokens = history["tokens"].to_numpy(dtype=float)

    _draw_losses(losses, tokens, history["loss"].to_numpy(dtype=float), epochs)
    _set_loss_range(losses, np.concatenate([history["loss"], epochs["valid_loss"]]).astype(float))
    _add_perplexity(losses)
    _mark_epochs(losses, epochs)
    _annotate_final(losses, epochs.iloc[-1])
    losses.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=28)
    losses.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=3, frameon=False, fontsize=10)

    rate = history["learning_rate"].to_numpy(dtype=float)
    kept = _kept(rate)
    rates.plot(tokens[kept], rate[kept], color=GREY, linewidth=1.2, marker="." if len(rate) == 1 else "")
    highest = float(rate.max()) or 1.0
    rates.set_ylim(0, 1.15 * highest)
    rates.set_yticks([0, highest], ["0", f"{highest:.3g}"])
    rates.set_ylabel("learning\nrate")
    rates.set_xlim(0, 1.015 * max(tokens[-1], float(epochs["tokens"].iloc[-1])))
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


def smooth(values: Array) -> Array:
    """A centred mean over at most 4 % of the rows; fewer than 50 rows stay as they are.

    The window is small at first and grows with the row, for that is how the loss falls: a fixed one would bend the
    steep beginning, and an exponential average would lag behind.
    """
    count = len(values)
    rows = np.arange(count)
    half = np.minimum(rows // 8, count // 50)
    start, end = rows - half, np.minimum(rows + half, count - 1) + 1
    total = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray(np.where(half == 0, values, (total[end] - total[start]) / (end - start)))


def short_count(count: float) -> str:
    """A count as people say it: `950`, `4.1 K`, `8.9 M`, `163.8 M`, `2 B`."""
    size, unit = next(((s, u) for s, u in ((1e9, " B"), (1e6, " M"), (1e3, " K")) if count >= s), (1, ""))
    return f"{count / size:.1f}".removesuffix(".0") + unit


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` places out of `count`, evenly spread, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def perplexity(value: float) -> str:
    """A perplexity with two decimals, and with a power of ten where it is beyond reading."""
    return f"{value:,.2f}" if value < 1e7 else f"{value:.2e}"


def _draw_losses(axes: Axes, tokens: Array, loss: Array, epochs: pd.DataFrame) -> None:
    smoothed = smooth(loss)
    line: dict[str, Any] = {"color": BLUE, "linewidth": 1.8, "marker": "o" if len(loss) < 30 else "", "markersize": 3.5}
    if np.array_equal(smoothed, loss):
        axes.plot(tokens, loss, label="training loss", **line)
    else:
        kept = _kept(loss)
        axes.plot(tokens[kept], loss[kept], color=BLUE, alpha=0.35, linewidth=0.7, label="training loss as logged")
        kept = _kept(smoothed)
        axes.plot(tokens[kept], smoothed[kept], label="training loss, smoothed", **line)
    axes.plot(
        epochs["tokens"],
        epochs["valid_loss"],
        color=VERMILLION,
        linewidth=1.4,
        marker="o",
        markersize=6.5 if len(epochs) <= 12 else 3,
        markeredgecolor="white",
        markeredgewidth=0.8 if len(epochs) <= 12 else 0.3,
        label="validation loss",
        zorder=4,
    )
    axes.set_ylabel("loss (nats per token)")


def _kept(values: Array) -> Array:
    """The rows to draw of a long line: the lowest and the highest of each stretch, the first and the last of all."""
    if len(values) <= MAX_POINTS:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for stretch in np.array_split(np.arange(len(values)), MAX_POINTS // 2):
        kept |= {int(stretch[values[stretch].argmin()]), int(stretch[values[stretch].argmax()])}
    return np.array(sorted(kept))


def _set_loss_range(axes: Axes, losses: Array) -> None:
    """A logarithmic axis: it shows the first losses near ln(vocabulary) and still leaves room to the last ones."""
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
    axes.grid(axis="y", color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)


def _add_perplexity(axes: Axes) -> None:
    """The right side: the same lines, read as exp(loss)."""
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


def _ticks(axes: Axes, candidates: Iterable[float], loss_of: Any) -> list[float]:
    """The first of the `candidates`, best first, that lie in view and apart from each other.

    Where the range is so narrow that fewer than four do, any round numbers.
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


def _mark_epochs(axes: Axes, epochs: pd.DataFrame) -> None:
    steps = (digit * 10**power for power in range(9) for digit in (1, 2, 5))
    every = next(step for step in steps if len(epochs) <= step * MAX_LABELLED_EPOCHS)
    for epoch, tokens in zip(epochs["epoch"], epochs["tokens"], strict=True):
        labelled = epoch % every == 0
        if labelled or len(epochs) <= MAX_EPOCH_LINES:
            axes.axvline(tokens, color=LIGHT, linewidth=0.8, zorder=0.5)
        if labelled:
            place = axes.get_xaxis_transform()
            style: dict[str, Any] = {"ha": "right", "va": "top", "fontsize": 9, "color": GREY}
            label = axes.annotate(f"epoch {epoch:,.0f}", (tokens, 1), (-4, -3), place, "offset points", **style)
            label.set_in_layout(False)


def _annotate_final(axes: Axes, last: pd.Series) -> None:
    label = axes.annotate(
        f"final validation: loss {last['valid_loss']:.4f} · PPL {perplexity(last['valid_ppl'])} · "
        f"{last['valid_bits_per_byte']:.4f} bits per byte",
        (last["tokens"], last["valid_loss"]),
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
