"""The lock of a resume checkpoint: one process at a time. Starts processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.saved_states import at, names, tensors
from tinystories.training.resume import lock_checkpoint

HOLDER = """
import sys
from pathlib import Path
from tinystories.training.resume import lock_checkpoint

with lock_checkpoint(Path(sys.argv[1]), sys.argv[2]):
    print("locked", flush=True)
    sys.stdin.readline()
    (Path(sys.argv[1]) / "done").touch()
"""


def holder(parent: Path, key: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(parent), key]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_lock_checkpoint_lets_one_process_in(tmp_path, capsys):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with lock_checkpoint(tmp_path, "other"):
            assert first.poll() is None, "another key does not wait"
        assert capsys.readouterr().out == ""
        with holder(tmp_path, "one") as second:
            assert second.stdout is not None
            assert "is already running (key one); waiting" in second.stdout.readline()
            assert not (tmp_path / "done").exists()
            first.communicate("\n")
            assert second.stdout.readline() == "locked\n"
            assert (tmp_path / "done").exists()
            second.communicate("\n")


def test_lock_checkpoint_is_free_after_a_kill(tmp_path):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
    with lock_checkpoint(tmp_path, "one") as saved:
        saved.save(tensors(), at(1))
        assert names(tmp_path / "one") == ["step-000000000001"]


def test_lock_checkpoint_is_free_after_an_error(tmp_path, capsys):
    with pytest.raises(RuntimeError), lock_checkpoint(tmp_path, "one"):
        raise RuntimeError
    with lock_checkpoint(tmp_path, "one"):
        assert capsys.readouterr().out == "", "nothing to wait for"
