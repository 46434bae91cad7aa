"""`tinystories state` and the targets of the Makefile that call it. Needs make."""

import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.repository import ROOT
from tests.support.saved_states import keys, parent, save_one
from tinystories.cli.main import main

__all__ = ["parent"]


def test_main_lists_and_frees(parent, capsys):
    main(["state"])
    assert capsys.readouterr().out == f"{parent}: no saved states\n"
    save_one(parent, "f" * 64, 0, numbers=500_000)
    save_one(parent, "1" * 64, 1, ended=None)
    save_one(parent, "2" * 64, 2, ended=None)
    next((parent / ("2" * 64)).glob("*/trainer_state.json")).unlink()
    with FileLock(parent / f"{'1' * 64}.lock"):
        main(["state"])
    finished, running, broken = capsys.readouterr().out.splitlines()
    assert finished.split()[:6] == ["f" * 12, "1,234", "steps", "finished", "2.0", "MB"]
    assert running.split()[:4] == ["1" * 12, "1,234", "steps", "running"]
    assert broken.split()[:5] == ["2" * 12, "?", "steps", "not", "readable"]
    main(["state", "--free"])
    assert keys(parent) == ["1" * 64, "2" * 64]
    assert "Freed 1 of 3 saved states, 2.0 MB.\nUnfinished ones stay" in capsys.readouterr().out
    with FileLock(parent / f"{'1' * 64}.lock"):
        main(["state", "--free", "--all"])
    assert keys(parent) == ["1" * 64]
    main(["state", "--free", "--all"])
    assert keys(parent) == []
    assert sorted(path.suffix for path in parent.iterdir()) == [".lock"] * 3


@pytest.mark.slow
def test_make_calls_main(parent):
    save_one(parent, "f" * 64, 0)
    options = ["-f", str(ROOT / "Makefile"), "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}"]
    for target, words in (("state", "finished"), ("clean-state", "Freed 1 of 1"), ("state", "no saved states")):
        done = subprocess.run(["make", *options, target], cwd=parent.parents[1], capture_output=True, text=True)
        assert done.returncode == 0 and words in done.stdout, done.stdout + done.stderr
