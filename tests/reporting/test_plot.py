"""plot.png: the values of the tables, at the right size, with the same bytes every time."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from tinystories.reporting.plot import Array, draw_run, evenly_spaced, perplexity, plot_run, short_count, smooth


def tables(
    rows: int, epochs: int, start: float = 9.2, end: float = 1.5, noise: float = 0.05
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A history and its epochs; the loss goes from `start` to `end`."""
    place = np.arange(1, rows + 1) / rows
    loss = end + (start - end) * (1 + 50 * place) ** -1.0 + np.random.default_rng(0).normal(0, noise, rows)
    history = pd.DataFrame(
        {"tokens": np.arange(1, rows + 1) * 81_920, "loss": loss, "learning_rate": 0.02 * (1 - place)}
    )
    at = np.linspace(0, rows - 1, epochs + 1).astype(int)[1:]
    valid = loss[at] + 0.1
    table = pd.DataFrame({"epoch": np.arange(1, epochs + 1), "tokens": history["tokens"].to_numpy()[at]})
    return history, table.assign(valid_loss=valid, valid_ppl=np.exp(valid), valid_bits_per_byte=valid / 2.8)


SHAPES = {
    "one epoch of 10 rows": tables(10, 1),
    "a single row": tables(1, 1),
    "two epochs": tables(1000, 2),
    "40 epochs": tables(400, 40),
    "400 epochs": tables(400, 400),
    "20,000 rows": tables(20_000, 2),
    "noisy": tables(1000, 2, noise=0.8, end=3.0),
    "rising": tables(500, 5, start=2.0, end=7.0),
    "flat": tables(20, 2, start=2.0, end=2.0, noise=0.0),
    "a first loss of 157": tables(500, 2, start=157.0),
    "near zero": tables(500, 2, end=0.001, noise=0.0),
    "a loss of 0": tables(60, 2, start=0.0, end=0.0, noise=0.0),
}


def curves(figure: Figure) -> dict[str, Array]:
    """The points (tokens, loss) of each line that the legend names."""
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in figure.axes[0].lines}
    return {label: points for label, points in lines.items() if not label.startswith("_")}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_drawn_at_readme_width(tmp_path, shape):
    target = tmp_path / "reports" / "plot.png"
    plot_run(*SHAPES[shape], target, shape)
    picture = imread(target)
    assert picture.shape[:2] == (900, 1600)
    assert picture[..., :3].std() > 0.03  # not an empty page
    assert [path.name for path in target.parent.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_loss_is_in_view_and_both_sides_agree(shape):
    history, epochs = SHAPES[shape]
    losses, rates, right = draw_run(history, epochs, shape).axes
    low, high = losses.get_ylim()
    values = np.maximum(np.concatenate([history["loss"], epochs["valid_loss"]]), 1e-6)
    assert low < values.min()
    assert values.max() < high
    assert right.get_ylim() == (low, high)
    assert rates.get_xlim()[0] == 0
    assert rates.get_xlim()[1] > history["tokens"].iloc[-1]
    for axes in (losses, right):
        assert 2 <= sum(low <= tick <= high for tick in axes.get_yticks()) <= 16
    for tick, label in zip(
        right.get_yticks(), right.yaxis.get_major_formatter().format_ticks(list(right.get_yticks())), strict=True
    ):
        assert float(label.replace(",", "")) == pytest.approx(np.exp(tick), rel=1e-4)
    for tick, label in zip(
        losses.get_yticks(), losses.yaxis.get_major_formatter().format_ticks(list(losses.get_yticks())), strict=True
    ):
        assert float(label) == pytest.approx(tick, rel=1e-4)


def test_the_same_tables_give_the_same_bytes_whatever_the_users_style(tmp_path, monkeypatch):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    plot_run(*SHAPES["two epochs"], first, "same")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20.0)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "black")
    plot_run(*SHAPES["two epochs"], second, "same")
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.rcParams["font.size"] == 20.0  # and the style is given back
    assert b"Matplotlib" not in first.read_bytes()
    history, epochs = SHAPES["two epochs"]
    plot_run(history, epochs.assign(valid_loss=epochs["valid_loss"] + 0.1), second, "same")
    assert first.read_bytes() != second.read_bytes()


def test_the_lines_hold_the_tables_values():
    history, epochs = SHAPES["two epochs"]
    figure = draw_run(history, epochs, "GPT · 81.9 M tokens")
    lines = curves(figure)
    assert lines["training loss as logged"].tolist() == history[["tokens", "loss"]].to_numpy().tolist()
    assert lines["validation loss"].tolist() == epochs[["tokens", "valid_loss"]].to_numpy().tolist()
    assert lines["training loss, smoothed"][:, 1].tolist() == smooth(history["loss"].to_numpy()).tolist()
    (rate,) = figure.axes[1].lines
    assert np.asarray(rate.get_xydata()).tolist() == history[["tokens", "learning_rate"]].to_numpy().tolist()
    assert figure.axes[0].get_title(loc="left") == "GPT · 81.9 M tokens"
    last = epochs.iloc[-1]
    words = [text.get_text() for text in figure.axes[0].texts]
    final = (
        f"loss {last['valid_loss']:.4f} · PPL {last['valid_ppl']:.2f} · {last['valid_bits_per_byte']:.4f} bits per byte"
    )
    assert f"final validation: {final}" in words
    assert {"epoch 1", "epoch 2"} < set(words)


def test_few_rows_are_drawn_as_they_are():
    history, epochs = SHAPES["one epoch of 10 rows"]
    lines = curves(draw_run(history, epochs, ""))
    assert set(lines) == {"training loss", "validation loss"}
    assert lines["training loss"][:, 1].tolist() == history["loss"].tolist()


def test_long_lines_are_thinned_but_keep_their_ends_and_extremes():
    history, epochs = SHAPES["20,000 rows"]
    drawn = curves(draw_run(history, epochs, ""))["training loss as logged"]
    every = set(map(tuple, history[["tokens", "loss"]].to_numpy().tolist()))
    assert len(drawn) <= 2_002
    assert set(map(tuple, drawn.tolist())) <= every
    assert drawn[0].tolist() == history[["tokens", "loss"]].iloc[0].tolist()
    assert drawn[-1].tolist() == history[["tokens", "loss"]].iloc[-1].tolist()
    assert drawn[:, 1].min() == history["loss"].min()
    assert drawn[:, 1].max() == history["loss"].max()


@pytest.mark.parametrize(
    ("shape", "labels", "lines"), [("40 epochs", 8, 40), ("400 epochs", 8, 8), ("two epochs", 2, 2)]
)
def test_many_epochs_have_few_labels(shape, labels, lines):
    axes = draw_run(*SHAPES[shape], "").axes[0]
    assert sum(text.get_text().startswith("epoch ") for text in axes.texts) == labels
    unnamed = [line for line in axes.lines if str(line.get_label()).startswith("_")]
    assert len(unnamed) == lines


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_lies_on_a_line(shape):
    figure = draw_run(*SHAPES[shape], "")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    points = np.concatenate([axes.transData.transform(line) for line in curves(figure).values()])
    points = points[np.isfinite(points).all(axis=1)]
    for box in (text.get_window_extent() for text in axes.texts):
        inside = (points > [box.x0, box.y0]) & (points < [box.x1, box.y1])
        assert not inside.all(axis=1).any()


def test_smoothing_takes_the_noise_and_leaves_the_curve():
    place = np.arange(1, 2001)
    curve = 1.5 + 8 * place**-0.5
    noisy = smooth(curve + np.random.default_rng(1).normal(0, 0.2, 2000))
    assert np.abs(noisy[200:] - curve[200:]).mean() < 0.04
    assert np.abs(smooth(curve) - curve).max() < 0.2  # a fixed window of the same width misses the start by 3
    assert smooth(curve[:49]).tolist() == curve[:49].tolist()


def test_counts_and_perplexities_in_words():
    assert [short_count(n) for n in (0, 950, 4096, 8_912_345, 163_840_000, 2e9)] == [
        *("0", "950", "4.1 K", "8.9 M", "163.8 M", "2 B")
    ]
    assert [perplexity(value) for value in (3.14159, 1234567.891, 1e68)] == ["3.14", "1,234,567.89", "1.00e+68"]
    assert evenly_spaced(1, 6) == [0]
    assert evenly_spaced(4, 6) == [0, 1, 2, 3]
    assert evenly_spaced(40, 6) == [0, 8, 16, 23, 31, 39]


def test_a_failure_leaves_the_earlier_picture(tmp_path):
    target = Path(tmp_path / "plot.png")
    target.write_bytes(b"earlier")
    history, epochs = SHAPES["a single row"]
    with pytest.raises(KeyError):
        plot_run(history.drop(columns="loss"), epochs, target)
    assert target.read_bytes() == b"earlier"
