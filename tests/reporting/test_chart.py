"""The curves of report.html lie where the tables say, in every shape of a run, and few points tell a long one."""

import json
import re

import numpy as np
import pytest

from tests.support.curves import SHAPES, tables
from tinystories.reporting.chart import Chart, make_chart


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"([-\d.]+) ([-\d.]+)", path)]


def places(chart: Chart) -> list[float]:
    ticks = chart.loss_ticks, chart.perplexity_ticks, chart.token_ticks, chart.rate_ticks, chart.epochs
    return [float(mark.place.rstrip("%")) for marks in ticks for mark in marks]


@pytest.mark.parametrize("shape", SHAPES)
def test_make_chart_draws_every_shape(shape):
    history, epochs = SHAPES[shape]
    chart = make_chart(history, epochs, 0.01)
    for path in (*chart.loss_paths.values(), chart.rate_path):
        found = np.array(points(path))
        assert len(found) >= 1
        assert found.min() >= 0 and found.max() <= 1000
    assert all(0 <= place <= 100 for place in places(chart))
    assert 2 <= len(chart.loss_ticks) <= 16 and 2 <= len(chart.token_ticks) <= 7
    assert chart.legend.keys() <= chart.loss_paths.keys()
    json.dumps(chart.data, allow_nan=False)
    rows = chart.data["rows"]
    assert [row[1] for row in rows] == sorted(row[1] for row in rows)
    for number, tokens, loss, place in chart.data["epochs"]:
        row = rows[place]
        assert (row[1], round(loss - 0.1, 4)) == (tokens, row[2]), number


def test_make_chart_places_losses_and_tokens():
    history, epochs = tables(60, 3)
    chart = make_chart(history, epochs, 0.0)
    low, high = chart.data["losses"]
    for row, (x, y) in zip(history, points(chart.loss_paths["logged"]), strict=True):
        assert x == pytest.approx(1000 * row.tokens / history[-1].tokens, abs=0.06)
        assert low * (high / low) ** (1 - y / 1000) == pytest.approx(row.loss, rel=1e-3)
    for row, (_, y) in zip(history, points(chart.rate_path), strict=True):
        assert y == pytest.approx(1000 * (1 - row.learning_rate / history[0].learning_rate), abs=0.06)
    for mark in (*chart.loss_ticks, *chart.perplexity_ticks):
        loss = low * (high / low) ** (1 - float(mark.place.rstrip("%")) / 100)
        tick = float(mark.label.replace(",", ""))
        assert (tick if mark in chart.loss_ticks else np.log(tick)) == pytest.approx(loss, rel=1e-3)
    assert [mark.label for mark in chart.epochs] == ["epoch 1", "epoch 2", "epoch 3"]
    assert chart.warmup is None


def test_make_chart_keeps_few_rows_and_every_extreme():
    history, epochs = tables(20_000, 400)
    chart = make_chart(history, epochs, 0.01)
    losses = [row[2] for row in chart.data["rows"]]
    assert len(losses) < 1_400
    every = [round(row.loss, 4) for row in history]
    assert (losses[0], losses[-1], min(losses), max(losses)) == (every[0], every[-1], min(every), max(every))
    assert len(points(chart.loss_paths["valid-dots"])) == len(chart.data["epochs"]) == 200
    assert len(chart.epochs) == sum(bool(mark.label) for mark in chart.epochs) == 8
    slices = [row[4] for row in chart.data["rows"] if row[4] is not None]
    assert slices == [row.valid_slice_loss for row in history if row.valid_slice_loss is not None]
    assert chart.warmup is not None and chart.warmup.place == "1.00%"
    assert points(chart.rate_path)[:2] == [(0.0, 1000.0), (0.1, 0.0)]


def test_make_chart_shows_a_single_row():
    chart = make_chart(*tables(1, 1), 0.0)
    assert list(chart.legend.values()) == ["training loss", "validation loss, whole set"]
    assert chart.loss_paths["train-dots"].endswith("h0")
