"""What every stage refuses before any work, besides its parameters, and what it clears away."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.support.repository import ROOT


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
    left = ("raw/.train.txt.part", "raw/.downloads/0.txt", "tokenizer/.tokenizer.json.part", "tokens/.train.bin.part/x")
    for path in (tmp_path / "data" / name for name in left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    time.sleep(0.05)
    for name in ("raw/train.txt", "raw/manifest.json", "tokens/train.bin", "raw/.valid.txt.part"):
        (tmp_path / "data" / name).touch()
    script = "from tinystories.common.stage import run_stage; run_stage(lambda params: None)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert {path.name for path in tmp_path.rglob(".*")} == {".tokenizer.json.part", ".valid.txt.part"}
