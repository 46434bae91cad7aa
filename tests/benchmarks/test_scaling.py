"""benchmarks/scaling.py: the fit of loss against tokens, and its picture. Needs nothing."""

import json
from pathlib import Path

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


def test_measure_and_draw(tmp_path: Path) -> None:
    rows = [
        {**row(recipe, seed, loss + seed / 1000), "steps": steps, "tokens": steps * 4096}
        for recipe, losses in {"ours": [2.5, 2.0, 1.8], "gpt2": [3.4, 2.5, 2.1]}.items()
        for steps, loss in zip(LENGTHS, losses, strict=True)
        for seed in (1, 2)
    ]
    path = tmp_path / "quality.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    found = {one["recipe"]: one for one in scaling.measure(path)["rows"]}
    assert found["ours"]["lengths"] == "1.64 M, 5.73 M, 22.94 M"
    assert 0 < found["ours"]["floor"] < 1.8
    scaling.draw(scaling.measured(path), tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    path.write_text("".join(json.dumps(one) + "\n" for one in rows if one["steps"] > 400))
    with pytest.raises(UserError, match="ours has 2 lengths with two seeds; a fit needs three"):
        scaling.measure(path)
