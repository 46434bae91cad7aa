"""Stage `download`: the manifest, the embedded stories, and how the script ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import PARAMS, ROOT
from tests.support.sources import STORIES, manifest, own, params, splits, write
from tinystories.common.errors import UserError
from tinystories.common.paths import RAW_MANIFEST
from tinystories.sources.prepare import prepare

pytestmark = pytest.mark.usefixtures("here")


def test_prepare_error_removes_old_manifest():
    write(Path("my.txt"), STORIES)
    prepare(own(train="my.txt"))
    Path("my.txt").unlink()
    with pytest.raises(UserError):
        prepare(own(train="my.txt"))
    assert not RAW_MANIFEST.exists()


def test_prepare_embedded_manifest():
    prepare(params("embedded", seed=7, stories=100))
    assert [len(stories) for stories in splits()] == [100, 20]
    assert manifest()["source"] == "embedded"
    assert manifest()["detail"] == {"generator": "tinystories.sources.storygen", "seed": 7}


def test_stage_download_one_line_error_then_success(here):
    text = PARAMS.read_text(encoding="utf-8")
    for old, new in (
        ("source: tinystories", "source: files"),
        ("train: data/own/train", "train: none.txt"),
    ):
        text = text.replace(old, new)
    Path("params.yaml").write_text(text, encoding="utf-8")
    Path("data/own/valid").mkdir(parents=True)
    command = [sys.executable, str(ROOT / "stages/download.py")]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert result.returncode == 1
    assert (
        result.stderr == f"error: data.files.train is 'none.txt'; no such file or directory, seen from {Path.cwd()}\n"
    )

    write(Path("none.txt"), STORIES)
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert manifest()["source"] == "files"
