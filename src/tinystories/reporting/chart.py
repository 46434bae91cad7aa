"""The curves of report.html: places and paths for its SVG, and the numbers that a pointer on them shows."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.epochs import evenly_spaced
from tinystories.reporting.formats import short_count
from tinystories.reporting.scale import MIN_LOSS, Ticks, loss_range, loss_ticks, perplexity_ticks
from tinystories.reporting.series import Array, column, decimate, label_every, smooth, with_warmup

MAX_POINTS = 1_000  # of a line, so that the page of a long training stays small
MAX_DOTS = 30  # longer lines are drawn without a dot at each row
MAX_EPOCH_LINES = 60
MAX_EPOCH_DOTS = 200
SIZE = 1000.0  # of the box that holds the paths; the page stretches it


class Mark(NamedTuple):
    """Something at a place along an axis, in per cent from the left or from the top."""

    place: str
    label: str


class Chart(NamedTuple):
    """What the template draws. Paths are by the class that gives them their colour; `data` is for the script."""

    loss_ticks: list[Mark]
    perplexity_ticks: list[Mark]
    token_ticks: list[Mark]
    rate_ticks: list[Mark]
    epochs: list[Mark]
    loss_paths: dict[str, str]
    rate_path: str
    warmup: Mark | None
    legend: dict[str, str]
    data: dict[str, Any]


def make_chart(history: list[HistoryRow], epochs: list[EpochRow], warmup: float) -> Chart:
    """The run's curves, from at least one row each. `warmup`: the share of all steps over which the rate rises."""
    tokens, loss, rate = (column(history, name) for name in ("tokens", "loss", "learning_rate"))
    scored = [number for number, row in enumerate(history) if row.valid_slice_loss is not None]
    dotted = [epochs[index] for index in evenly_spaced(len(epochs), MAX_EPOCH_DOTS)]
    ends = np.minimum(np.searchsorted(tokens, column(dotted, "tokens")), len(tokens) - 1)  # the epochs' last rows
    kept = np.unique(np.concatenate([decimate(loss, MAX_POINTS), np.array(scored, dtype=int), ends]))
    smoothed = smooth(loss)
    slice_loss = column([history[number] for number in scored], "valid_slice_loss")

    low, high = loss_range(np.concatenate([loss, slice_loss, column(epochs, "valid_loss")]))
    end, highest = max(tokens.max(), column(epochs, "tokens").max()) or 1.0, float(rate.max()) or 1.0

    def across(values: Array) -> Array:
        return np.asarray(values / end)

    down = loss_scale(low, high)

    paths, legend = {}, {}
    if np.array_equal(smoothed, loss):
        paths["train"] = line(across(tokens[kept]), down(loss[kept]))
        legend["train"] = "training loss"
        if len(loss) < MAX_DOTS:
            paths["train-dots"] = dots(across(tokens), down(loss))
    else:
        paths["logged"] = line(across(tokens[kept]), down(loss[kept]))
        paths["train"] = line(across(tokens[kept]), down(smoothed[kept]))
        legend |= {"train": "training loss, smoothed", "logged": "as logged"}
    if scored:
        paths["slice"] = line(across(tokens[scored]), down(slice_loss))
        legend["slice"] = "validation loss, slice"
    paths["valid-dots"] = dots(across(column(dotted, "tokens")), down(column(dotted, "valid_loss")))
    legend["valid-dots"] = "validation loss, whole set"

    rise = with_warmup(tokens[kept], rate[kept], warmup * epochs[-1].tokens)
    every = label_every(len(epochs))
    warm = Mark(percent(min(warmup * epochs[-1].tokens / end, 1.0)), short_count(warmup * epochs[-1].tokens))
    rows = zip(
        column(history, "step")[kept].astype(int).tolist(),
        tokens[kept].astype(int).tolist(),
        [round(value, 4) for value in loss[kept].tolist()],
        [round(value, 4) for value in smoothed[kept].tolist()],
        [history[number].valid_slice_loss for number in kept.tolist()],
        [float(f"{value:.4g}") for value in rate[kept].tolist()],
        strict=True,
    )
    return Chart(
        loss_ticks=marks(loss_ticks(low, high), down),
        perplexity_ticks=marks(perplexity_ticks(low, high), down),
        token_ticks=token_marks(float(end)),
        rate_ticks=[Mark(percent(1.0), "0"), Mark(percent(0.0), f"{highest:.3g}")],
        epochs=[
            Mark(percent(row.tokens / end), f"epoch {row.epoch:,}" if row.epoch % every == 0 else "")
            for row in epochs
            if row.epoch % every == 0 or len(epochs) <= MAX_EPOCH_LINES
        ],
        loss_paths=paths,
        rate_path=line(across(rise[0]), 1 - rise[1] / highest),
        warmup=warm if warmup else None,
        legend=legend,
        data={
            "rows": list(map(list, rows)),
            "epochs": [
                [row.epoch, row.tokens, row.valid_loss, place]
                for row, place in zip(dotted, np.searchsorted(kept, ends).tolist(), strict=True)
            ],
            "end": float(end),
            "losses": [low, high],
            "rate": highest,
        },
    )


def loss_scale(low: float, high: float) -> Callable[[Array], Array]:
    """What share of the box lies above each loss, on a logarithmic axis."""
    return lambda losses: np.asarray(1 - np.log(np.maximum(losses, MIN_LOSS) / low) / np.log(high / low))


def token_marks(end: float) -> list[Mark]:
    """Round counts of tokens up to `end`."""
    ticks = MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(0.0, end)
    return [Mark(percent(tick / end), short_count(tick)) for tick in ticks if tick <= end]


def line(across: Array, down: Array) -> str:
    """A path through the points, each a share of the box from the left and from the top."""
    return "M" + "L".join(_points(across, down))


def dots(across: Array, down: Array) -> str:
    """Lines of no length, whose round ends are dots of the same size however the box is stretched."""
    return "".join(f"M{point}h0" for point in _points(across, down))


def _points(across: Array, down: Array) -> list[str]:
    return [f"{x:.1f} {y:.1f}" for x, y in zip((SIZE * across).tolist(), (SIZE * down).tolist(), strict=True)]


def marks(ticks: Ticks, down: Any) -> list[Mark]:
    """The places of an axis's ticks. `down`: what share of the box lies above a loss."""
    return [Mark(percent(float(down(np.array(loss)))), label) for loss, label in ticks]


def percent(share: float) -> str:
    """A place along an axis, as SVG has it."""
    return f"{100 * share:.2f}%"
