"""benchmarks/scaling.py: the fit of loss against tokens, and its picture. Needs nothing."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import scaling
from tests.benchmarks.test_quality import row
from tinystories.common.errors import UserError

LENGTHS = [400, 1_400, 5_600]
TOKENS = [steps * 4096.0 for steps in LENGTHS]


@given(floor=st.floats(0.1, 2), exponent=st.floats(0.2, 0.8), first=st.floats(0.3, 3))
def test_fit_finds_the_curve_that_made_the_losses(floor: float, exponent: float, first: float) -> None:
    curve = scaling.Fit(floor, first * TOKENS[0] ** exponent, exponent)
    found = scaling.fit(TOKENS, [float(loss) for loss in curve.loss(np.asarray(TOKENS))])
    at = np.asarray([scaling.TOKENS])
    assert found.loss(at)[0] == pytest.approx(curve.loss(at)[0], abs=0.02)


def test_foretell_is_wider_for_seeds_that_differ_more() -> None:
    close = scaling.foretell(TOKENS, [[2.5, 2.501], [2.0, 2.001], [1.8, 1.801]], scaling.TOKENS)
    apart = scaling.foretell(TOKENS, [[2.49, 2.511], [1.99, 2.011], [1.79, 1.811]], scaling.TOKENS)
    assert close[0] == pytest.approx(apart[0], abs=0.01)
    assert apart[2] - apart[1] > 5 * (close[2] - close[1])
    assert close[1] < close[0] < close[2]


def test_fit_of_a_loss_that_falls_ever_faster_has_no_floor() -> None:
    assert scaling.fit(TOKENS, [4.0, 3.0, 1.9]).floor == 0


def rows_of(losses: dict[str, list[float]], seeds: Sequence[int], lengths: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {**row(recipe, seed, loss + seed / 1000), "steps": steps, "tokens": steps * 4096}
        for recipe, of_lengths in losses.items()
        for steps, loss in zip(lengths, of_lengths, strict=True)
        for seed in seeds
    ]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_measure_and_draw(tmp_path: Path) -> None:
    rows = rows_of({"ours": [2.5, 2.0, 1.8], "gpt2": [4.0, 3.0, 1.9]}, (1, 2), LENGTHS)
    rows += rows_of({"ours": [1.7]}, (1,), [11_200])
    path = written(tmp_path / "quality.jsonl", rows)
    found = {one["recipe"]: one for one in scaling.measure(path)["rows"]}
    assert found["ours"]["lengths"] == found["gpt2"]["lengths"] == "1.64 M, 5.73 M, 22.94 M"
    assert 0 < found["ours"]["floor"] < 1.8
    assert found["ours"]["at 163.84 M tokens"].startswith("1.")
    assert re.fullmatch(r"45.88 M: 1\.\d{3} foretold, 1.701 measured", found["ours"]["one seed, not fitted"])
    assert (found["gpt2"]["at 163.84 M tokens"], found["gpt2"]["one seed, not fitted"]) == ("not foretold", "")
    scaling.draw(scaling.measured(path), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000


def test_measure_needs_three_lengths(tmp_path: Path) -> None:
    rows = rows_of({"ours": [2.0, 1.8], "gpt2": [2.5, 2.1]}, (1, 2), LENGTHS[1:])
    path = written(tmp_path / "quality.jsonl", [*rows, *rows_of({"ours": [2.5]}, (1,), [400])])
    with pytest.raises(UserError, match="ours has 2 lengths with two seeds; a fit needs three"):
        scaling.measure(path)
