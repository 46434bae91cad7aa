"""A sample of `make torture`, and what its campaigns have found that has no other place."""

import random
import signal
import threading
from pathlib import Path

import pytest

from tests.repository import Repository, new_repository
from tests.strikes import MOMENTS, Chain, Kill
from tinystories import live_run
from tinystories.live_run import LiveRun

STRIKES = (
    ("writing tokens", signal.SIGINT, "stage", ("repro",), 12),
    ("writing the state", signal.SIGKILL, "dvc", ("repro",), 9),
    ("validating", signal.SIGTERM, "group", ("exp", "run"), 20),
    ("sampling", signal.SIGKILL, "group", ("exp", "run", "--temp"), 10),
    ("publishing", signal.SIGKILL, "stage", ("repro",), 50),
    ("between stages", signal.SIGTERM, "dvc", ("repro",), 20),
)


def test_stopped_again_and_again_it_ends_as_if_it_had_never_been(finished: Repository, tmp_path: Path) -> None:
    chain = Chain(new_repository(tmp_path / "struck"), random.Random(0), seconds=0)
    moments = {moment.name: moment for moment in MOMENTS}
    for name, *how in STRIKES:
        assert chain.strike(Kill(moments[name], *how)), name  # type: ignore[arg-type]
    chain.finish(("repro",))
    found, expected = chain.repository.result(), finished.result()
    assert [name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name)] == []


def test_a_stop_waits_for_mlflow_less_than_the_end_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who stops a training expects it gone within ten seconds, and its state has to be saved in them too."""
    over = threading.Event()
    monkeypatch.setattr(live_run, "open_live", lambda **_: over.wait(60))
    monkeypatch.setattr(live_run, "LONGEST_STOP", 0.01)
    run = LiveRun(
        uri="http://localhost:1", experiment="e", root=tmp_path, key="k", run_id=None, name=None, params={}, tags={}
    )
    assert run.close("KILLED", 600.0) is None
    assert "not done within 0.01 s" in capsys.readouterr().out
    over.set()
