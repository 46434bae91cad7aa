"""What every stage refuses before any work, besides its parameters, and what it clears away."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("ftp://bob:secret@host/x", "'(hidden)@host/x'"),
        ("./mlruns", "'./mlruns'"),
        ("http:/bob:secret@host", "'(hidden)@host'"),
        ("bob:secret@host", "'(hidden)@host'"),
    ],
)
def test_a_store_that_mlflow_cannot_use(store, shown):
    """In the first stage: in the last one it would show after the training."""
    done = subprocess.run(
        [sys.executable, "stages/train_tokenizer.py"],
        cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": store}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: MLFLOW_TRACKING_URI is {shown}; it should be ")


def test_what_killed_stages_left_half_written_is_swept_but_not_what_another_is_at_work_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name in ("data/raw/.train.txt.part", "models/.checkpoint.part/config.json", "reports/.report.md.part"):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.touch()
    time.sleep(0.05)
    (tmp_path / "data/raw/train.txt").touch()
    (tmp_path / "models/checkpoint").mkdir()
    (tmp_path / "data/raw/.valid.txt.part").touch()
    script = "from tinystories.stage import run_stage; run_stage(lambda params: None)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob(".*.part")} == {
        "data/raw/.valid.txt.part",
        "reports/.report.md.part",
    }
