"""The frame of every stage: how it exits, what it refuses before any work, and what it removes."""

import os
import shutil
import subprocess
import sys
import time

import pytest

from tests.support.repository import PARAMS, ROOT
from tests.support.stage import run_script
from tinystories.common.cores import SPIN_COUNT
from tinystories.common.stage import WORLD_SIZE_VARIABLES


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ("assert params.seed == 1337", 0, ""),
        ("raise UserError('a.txt: nothing there')", 1, "error: a.txt: nothing there\n"),
        ("open('no/such/file')", 1, "error: no/such/file: No such file or directory\n"),
        ("raise OSError(28, 'No space left on device')", 1, "error: No space left on device\n"),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", 143, ""),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(60)", 130, ""),
    ],
)
def test_run_stage_exit_status(stage_directory, body, status, error):
    result = run_script(stage_directory, body)
    assert (result.returncode, result.stderr) == (status, error)
    assert result.stdout == ("after\n" if status == 0 else "")


@pytest.mark.parametrize(
    ("set_by_user", "seen"),
    [({}, str(SPIN_COUNT)), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_run_stage_limits_spinning_unless_the_user_has_set_it(stage_directory, monkeypatch, set_by_user, seen):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    body = "assert 'torch' not in sys.modules; open('seen', 'w').write(str(os.environ.get('GOMP_SPINCOUNT')))"
    assert run_script(stage_directory, body, **set_by_user).returncode == 0
    assert (stage_directory / "seen").read_text() == seen


def test_run_stage_keeps_traceback_of_a_bug(stage_directory):
    result = run_script(stage_directory, "{}['x']")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "KeyError: 'x'" in result.stderr


@pytest.mark.parametrize("text", ["seed: [", "seed: 1\n", ""])
def test_run_stage_refuses_bad_params(stage_directory, text):
    (stage_directory / "params.yaml").write_text(text)
    result = run_script(stage_directory, "pass")
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (stage_directory / "started").exists()


@pytest.mark.parametrize("name", WORLD_SIZE_VARIABLES)
def test_run_stage_refuses_several_processes(stage_directory, name):
    """`torchrun --nproc-per-node 2` would train everything twice."""
    result = run_script(stage_directory, "", **{name: "2"})
    assert (result.returncode, result.stderr) == (
        1,
        f"error: {name} is 2; each process would do the whole work; start one, without torchrun, mpirun or srun\n",
    )
    assert not (stage_directory / "started").exists()
    assert run_script(stage_directory, "", **{name: "1"}).returncode == 0


@pytest.mark.parametrize("name", ["data", "data/raw", "models", "reports"])
def test_run_stage_refuses_outputs_outside_repository(tmp_path, stage_directory, name):
    (tmp_path / "here").mkdir()
    (stage_directory / "params.yaml").rename(tmp_path / "here/params.yaml")
    link = tmp_path / "here" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "disk")
    result = run_script(tmp_path / "here", "", DVC_STAGE="download")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {name}") and f"leads to {tmp_path}/disk" in result.stderr
    assert not (tmp_path / "here/started").exists()
    link.unlink()
    link.symlink_to(tmp_path / "here")  # in the stage_directory: DVC takes it
    assert run_script(tmp_path / "here", "", DVC_STAGE="download").returncode == 0
    assert run_script(tmp_path / "here", "").returncode == 0


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("ftp://bob:secret@host/x", "'(hidden)@host/x'"),
        ("./mlruns", "'./mlruns'"),
        ("http:/bob:secret@host", "'(hidden)@host'"),
        ("bob:secret@host", "'(hidden)@host'"),
    ],
)
def test_run_stage_refuses_bad_tracking_uri(store, shown):
    """In the first stage: in the last one it would show after the training."""
    done = subprocess.run(
        [sys.executable, "stages/train_tokenizer.py"],
        cwd=ROOT, env=os.environ | {"MLFLOW_TRACKING_URI": store}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: MLFLOW_TRACKING_URI is {shown}; it should be ")


def test_run_stage_removes_what_killed_stages_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(PARAMS, tmp_path)
    left = ("raw/.train.txt.part", "tokenizer/.tokenizer.json.part", "tokens/.train.bin.part/x")
    for path in (tmp_path / "data" / name for name in left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    time.sleep(0.05)
    for name in ("raw/train.txt", "raw/manifest.json", "tokens/train.bin", "raw/.valid.txt.part"):
        (tmp_path / "data" / name).touch()
    script = "from tinystories.common.stage import run_stage; run_stage(lambda params: None)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert {path.name for path in tmp_path.rglob(".*")} == {".tokenizer.json.part", ".valid.txt.part"}
