"""plot.png has the values of the tables, at the right size, with the same bytes every time."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from tests.support.curves import SHAPES, tables
from tests.support.report_files import epoch_rows
from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.reporting.figure import draw_run, plot_run
from tinystories.reporting.formats import short_count
from tinystories.reporting.series import Array, smooth


def column(rows: Sequence[HistoryRow | EpochRow], name: str) -> list[float]:
    return [getattr(row, name) for row in rows]


def columns(rows: Sequence[HistoryRow | EpochRow], *names: str) -> list[list[float]]:
    return [[getattr(row, name) for name in names] for row in rows]


def scored(history: list[HistoryRow]) -> list[HistoryRow]:
    return [row for row in history if row.valid_slice_loss is not None]


def curves(figure: Figure) -> dict[str, Array]:
    """The points (tokens, loss) of each line that the legend names."""
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in figure.axes[0].lines}
    return {label: points for label, points in lines.items() if not label.startswith("_")}


@pytest.mark.parametrize("shape", SHAPES)
def test_plot_run_draws_every_shape(tmp_path, shape):
    target = tmp_path / "reports" / "plot.png"
    plot_run(*SHAPES[shape], target, shape)
    picture = imread(target)
    assert picture.shape[:2] == (900, 1600)
    assert picture[..., :3].std() > 0.03  # not an empty page
    assert [path.name for path in target.parent.iterdir()] == ["plot.png"]


@pytest.mark.parametrize("shape", SHAPES)
def test_axes_show_every_loss_and_agree(shape):
    history, epochs = SHAPES[shape]
    losses, rates, right = draw_run(history, epochs, shape).axes
    low, high = losses.get_ylim()
    slice_losses = column(scored(history), "valid_slice_loss")
    values = np.maximum(np.array(column(history, "loss") + column(epochs, "valid_loss") + slice_losses), 1e-6)
    assert low < values.min()
    assert values.max() < high
    assert right.get_ylim() == (low, high)
    assert rates.get_xlim()[0] <= 0
    assert rates.get_xlim()[1] > history[-1].tokens
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


def test_plot_run_ignores_the_users_style(tmp_path, monkeypatch):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    plot_run(*SHAPES["two epochs"], first, "same")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 20.0)
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "black")
    plot_run(*SHAPES["two epochs"], second, "same")
    assert first.read_bytes() == second.read_bytes()
    assert matplotlib.rcParams["font.size"] == 20.0  # and the style is given back
    assert b"Matplotlib" not in first.read_bytes()
    history, epochs = SHAPES["two epochs"]
    plot_run(history, [row.model_copy(update={"valid_loss": row.valid_loss + 0.1}) for row in epochs], second, "same")
    assert first.read_bytes() != second.read_bytes()


def test_lines_have_the_values_of_the_tables():
    history, epochs = SHAPES["two epochs"]
    figure = draw_run(history, epochs, "GPT · 81.9 M tokens")
    lines = curves(figure)
    assert lines["training loss as logged"].tolist() == columns(history, "tokens", "loss")
    assert lines["validation loss, whole set"].tolist() == columns(epochs, "tokens", "valid_loss")
    assert lines["validation loss, slice"].tolist() == columns(scored(history), "tokens", "valid_slice_loss")
    assert lines["training loss, smoothed"][:, 1].tolist() == smooth(np.array(column(history, "loss"))).tolist()
    (rate,) = figure.axes[1].lines
    assert np.asarray(rate.get_xydata()).tolist() == columns(history, "tokens", "learning_rate")
    assert figure.axes[0].get_title(loc="left") == "GPT · 81.9 M tokens"
    last = epochs[-1]
    words = [text.get_text() for text in figure.axes[0].texts]
    final = f"loss {last.valid_loss:.4f} · PPL {last.valid_ppl:.2f} · {last.valid_bits_per_byte:.4f} bits per byte"
    assert f"final validation: {final}" in words
    assert {"epoch 1", "epoch 2"} < set(words)


def test_few_rows_are_not_smoothed():
    history, epochs = SHAPES["one epoch of 10 rows"]
    lines = curves(draw_run(history, epochs, ""))
    assert set(lines) == {"training loss", "validation loss, whole set"}
    assert lines["training loss"][:, 1].tolist() == column(history, "loss")


def test_long_lines_keep_ends_and_extremes():
    history, epochs = SHAPES["20,000 rows"]
    drawn = curves(draw_run(history, epochs, ""))["training loss as logged"]
    every = columns(history, "tokens", "loss")
    assert len(drawn) <= 2_002
    assert set(map(tuple, drawn.tolist())) <= set(map(tuple, every))
    assert drawn[0].tolist() == every[0]
    assert drawn[-1].tolist() == every[-1]
    assert drawn[:, 1].min() == min(column(history, "loss"))
    assert drawn[:, 1].max() == max(column(history, "loss"))


@pytest.mark.parametrize(
    ("shape", "labels", "lines"), [("40 epochs", 8, 40), ("400 epochs", 8, 8), ("two epochs", 2, 2)]
)
def test_many_epochs_have_few_labels(shape, labels, lines):
    axes = draw_run(*SHAPES[shape], "").axes[0]
    assert sum(text.get_text().startswith("epoch ") for text in axes.texts) == labels
    unnamed = [line for line in axes.lines if str(line.get_label()).startswith("_")]
    assert len(unnamed) == lines


@pytest.mark.parametrize(
    ("warmup", "beginning"), [(0.01, [[0, 0], [0.01, 1]]), (0.5, [[0, 0]]), (1.0, [[0, 0]]), (0.0, [])]
)
def test_the_warmup_is_drawn_from_its_beginning(warmup, beginning):
    """Also where it ends before the first row."""
    history, epochs = tables(40, 1)
    rows = columns(history, "tokens", "learning_rate")
    axes = draw_run(history, epochs, "", warmup).axes[1]
    (rate,) = axes.lines
    end, peak = 81_920 * 40, history[0].learning_rate
    drawn = [[place * end, height * peak] for place, height in beginning]
    assert np.asarray(rate.get_xydata()).tolist() == [*drawn, *rows]
    bands = [patch.get_x() + patch.get_width() for patch in axes.patches if isinstance(patch, Rectangle)]
    assert bands == ([warmup * end] if warmup else [])
    assert [text.get_text() for text in axes.texts] == (
        [f"warm-up, {short_count(warmup * end)} tokens"] if warmup else []
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_no_text_lies_on_a_line(shape):
    figure = draw_run(*SHAPES[shape], "", warmup=0.01 if len(shape) % 2 else 0.7)
    figure.draw_without_rendering()
    losses, rates, _ = figure.axes
    for axes, lines in ((losses, curves(figure).values()), (rates, [line.get_xydata() for line in rates.lines])):
        points = np.concatenate([axes.transData.transform(np.asarray(line)) for line in lines])
        points = points[np.isfinite(points).all(axis=1)]
        for box in (text.get_window_extent() for text in axes.texts):
            inside = (points > [box.x0, box.y0]) & (points < [box.x1, box.y1])
            assert not inside.all(axis=1).any()


def test_plot_run_failure_leaves_the_earlier_picture(tmp_path):
    target = Path(tmp_path / "plot.png")
    target.write_bytes(b"earlier")
    with pytest.raises(ValueError):
        plot_run([], epoch_rows(1), target, "")
    assert target.read_bytes() == b"earlier"
