"""A sample of `make torture`, and that its kill points exist. Needs git, DVC and MLflow; two minutes."""

import ast
import importlib.util
import random
import signal
import threading
from pathlib import Path

import pytest

from tests.support.kill_points import ENDING, KILL_POINTS, Chain, Kill
from tests.support.repository import Repository, new_repository
from tests.support.troubles import Trouble
from tinystories.tracking import async_logger
from tinystories.tracking.async_logger import AsyncRunLogger

KILLS = (
    ("writing tokens", signal.SIGINT, "stage", ("repro",), 12),
    ("writing the state", signal.SIGKILL, "group", ("repro",), 9),  # an orphan might end its few steps
    ("validating", signal.SIGTERM, "group", ("exp", "run"), 20),
    ("sampling", signal.SIGKILL, "group", ("exp", "run", "--temp"), 10),
    ("results written", signal.SIGKILL, "group", ("repro",), 2),
    ("DVC copies results", signal.SIGKILL, "dvc", ("repro",), 9),
    ("publishing", signal.SIGKILL, "stage", ("repro",), 50),
    ("between stages", signal.SIGTERM, "dvc", ("repro",), 20),
)


def test_killed_pipeline_ends_identical(finished: Repository, tmp_path: Path) -> None:
    chain = Chain(new_repository(tmp_path / "killed"), random.Random(0), seconds=0)
    points = {point.name: point for point in KILL_POINTS}
    for name, *how in KILLS:
        assert chain.kill(Kill(points[name], *how)), name  # type: ignore[arg-type]
        if name == "DVC copies results":
            assert chain.suffer(Trouble("lock held by another", ("repro",)))
    chain.finish(("repro",))
    found, expected = chain.repository.result(), finished.result()
    assert [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)] == []
    assert chain.steps()["though saved"] == 0
    assert chain.said("its results are written again") >= 3


def functions(file: str) -> set[str]:
    """Names of all functions in the files whose path ends so: ours, or else those of the packages that we kill in."""
    for package in ("tinystories", "dvc", "dvc_data", "dvc_objects", "mlflow", "threading"):
        spec = importlib.util.find_spec(package)
        assert spec and spec.origin
        origin = Path(spec.origin)
        paths = origin.parent.rglob(Path(file).name) if origin.name == "__init__.py" else [origin]
        found = [path.read_text(encoding="utf-8") for path in paths if str(path).endswith(f"/{file}")]
        if found:
            nodes = (node for text in found for node in ast.walk(ast.parse(text)))
            return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    return set()


PLACES = sorted({place for point in KILL_POINTS for place in f"{point.places} {point.slow} {ENDING}".split()})


@pytest.mark.parametrize("place", PLACES)
def test_kill_points_exist(place: str) -> None:
    """Else a kill point is never reached, unnoticed."""
    file, name = place.split(":")
    assert name in functions(file)


def test_stopped_logger_waits_less_than_a_finished_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stopped training should be gone within ten seconds, and its state has to be saved in them too."""
    over = threading.Event()
    monkeypatch.setattr(async_logger, "open_run_to_log", lambda **_: over.wait(60))
    monkeypatch.setattr(async_logger, "MAX_STOP_SECONDS", 0.01)
    run = AsyncRunLogger(
        uri="http://localhost:1", experiment="e", root=tmp_path, key="k", run_id=None, name=None, params={}, tags={}
    )
    assert run.close("KILLED", 600.0) is None
    assert "not done within 0.01 s" in capsys.readouterr().out
    over.set()
