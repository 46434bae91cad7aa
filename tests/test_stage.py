"""What every stage refuses before any work, besides its parameters."""

import os
import subprocess
import sys
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
