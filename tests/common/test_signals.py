"""Stages that end in order, and those that end however that may be."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.repository import ROOT
from tinystories.common import signals as stopping
from tinystories.common.signals import GracefulShutdown, Stopped
from tinystories.common.stage import PROCESSES


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, the handlers of the test run stay. Signals need no pause between them."""
    monkeypatch.setattr(stopping, "DEBOUNCE_SECONDS", 0.0)
    before = {number: signal.getsignal(number) for number in GracefulShutdown.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", GracefulShutdown.SIGNALS)
def test_a_first_signal_is_noted_and_a_second_stops_at_once(number):
    with pytest.raises(Stopped) as caught, GracefulShutdown() as stop:
        stop.defer()
        stop.check()
        os.kill(os.getpid(), number)
        reached = True
        with pytest.raises(Stopped) as checked:
            stop.check()
        assert (checked.value.signal_number, checked.value.immediate) == (number, False)
        os.kill(os.getpid(), number)
        pytest.fail("the second signal should have stopped this")
    assert reached
    assert (caught.value.signal_number, caught.value.immediate) == (number, True)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", GracefulShutdown.SIGNALS)
def test_nothing_waits_before_there_is_something_to_save(number):
    """The first step compiles for up to a minute."""
    with pytest.raises(Stopped) as caught, GracefulShutdown():
        os.kill(os.getpid(), number)
        pytest.fail("the signal should have stopped this")
    assert (caught.value.signal_number, caught.value.immediate) == (number, True)


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_comes_twice_is_one_wish(monkeypatch):
    """As from `timeout`, which signals a process and its group, or from DVC's end after its group was signalled."""
    monkeypatch.setattr(stopping, "DEBOUNCE_SECONDS", 60.0)
    monkeypatch.setattr(stopping, "_heard_at", -60.0)
    with GracefulShutdown() as stop:
        stop.defer()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as caught:
            stop.check()
    assert (caught.value.signal_number, caught.value.immediate) == (signal.SIGINT, False)
    signal.signal(signal.SIGTERM, stopping.raise_stopped)
    os.kill(os.getpid(), signal.SIGTERM)  # nor does it disturb the cleaning up after the first


@pytest.mark.usefixtures("handlers")
def test_signals_mean_what_they_meant_before_once_the_block_has_ended():
    before = [signal.getsignal(number) for number in GracefulShutdown.SIGNALS]
    with pytest.raises(ValueError, match="x"), GracefulShutdown():
        assert [signal.getsignal(number) for number in GracefulShutdown.SIGNALS] != before
        raise ValueError("x")
    assert [signal.getsignal(number) for number in GracefulShutdown.SIGNALS] == before


def test_no_handler_of_ordinary_errors_swallows_a_stop():
    assert not issubclass(Stopped, Exception)


STAGE = """
import os, signal, sys, time
from pathlib import Path
from tinystories.common.errors import UserError
from tinystories.common.stage import run_stage

def main(params):
    Path("started").touch()
    {body}

run_stage(main)
print("after")
"""


def run(directory: Path, body: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", STAGE.format(body=body)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=60)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    return tmp_path


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
def test_how_a_stage_ends(repository, body, status, error):
    result = run(repository, body)
    assert (result.returncode, result.stderr) == (status, error)
    assert result.stdout == ("after\n" if status == 0 else "")


def test_a_stage_ends_with_the_dvc_that_started_it(repository):
    """After `kill -9` of DVC it would go on for nothing, and beside the next one."""
    stage = STAGE.format(body="try: time.sleep(60)\n    finally: Path('ended').touch()")
    dvc = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {stage!r}])"]
    with subprocess.Popen(dvc, cwd=repository, env={**os.environ, "DVC_STAGE": "train"}) as parent:
        await_file(repository / "started")
        parent.kill()
    await_file(repository / "ended")


# The only thread that could run Python's handlers waits in the C library for a lock that it has itself.
HANG = "lock = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(lock) for _ in range(2)]"
SEND = "threading.Timer({after}, os.kill, (os.getpid(), signal.{name})).start()"
SOON = "import ctypes, threading; from tinystories.common import signals; signals.PATIENCE = 0.3; "


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_stage_ends_also_in_a_native_call(repository, name, status):
    result = run(repository, SOON + SEND.format(after=0.1, name=name) + "; " + HANG)
    assert (result.returncode, result.stderr) == (status, "error: not ended 0.3 s after the signal; ended hard\n")


@pytest.mark.parametrize(("rest", "error"), [("time.sleep(1)", ""), (HANG, "error: not ended 0.3 s after ")])
def test_who_saves_after_a_first_signal_has_the_time_for_it_and_a_second_ends_also_that(repository, rest, error):
    body = f"""{SOON} stopping.DEBOUNCE_SECONDS = 0.0
    with stopping.GracefulShutdown() as stop:
        stop.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        Path("saved").touch()
        {SEND.format(after=0.1, name="SIGTERM")}
        {rest}
        Path("unheard").touch()"""
    result = run(repository, body)
    assert result.returncode == 143 and result.stderr.startswith(error) and bool(result.stderr) == bool(error)
    assert (repository / "saved").exists() and not (repository / "unheard").exists()


def test_an_orphan_ends_also_in_a_native_call(repository):
    stage = STAGE.format(body=f"{SOON} Path('started').write_text(str(os.getpid())); {HANG}")
    dvc = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {stage!r}])"]
    with subprocess.Popen(dvc, cwd=repository, env={**os.environ, "DVC_STAGE": "train"}) as parent:
        await_file(repository / "started")
        await_true(lambda: (repository / "started").read_text() != "")
        parent.kill()
    process = int((repository / "started").read_text())
    try:
        await_true(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def await_file(path: Path) -> None:
    await_true(path.exists)


def await_true(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_mistake_of_the_program_keeps_its_traceback(repository):
    result = run(repository, "{}['x']")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and "KeyError: 'x'" in result.stderr


@pytest.mark.parametrize("text", ["seed: [", "seed: 1\n", ""])
def test_bad_parameters_end_a_stage_before_any_work(repository, text):
    (repository / "params.yaml").write_text(text)
    result = run(repository, "pass")
    assert result.returncode == 1
    assert result.stderr.startswith("error: params.yaml: ")
    assert len(result.stderr.splitlines()) == 1
    assert not (repository / "started").exists()


@pytest.mark.parametrize("name", PROCESSES)
def test_several_processes_are_refused_and_one_is_not(repository, name):
    """`torchrun --nproc-per-node 2` would train everything twice."""
    result = run(repository, "", **{name: "2"})
    assert (result.returncode, result.stderr) == (
        1,
        f"error: {name} is 2; each process would do the whole work; start one, without torchrun, mpirun or srun\n",
    )
    assert not (repository / "started").exists()
    assert run(repository, "", **{name: "1"}).returncode == 0


@pytest.mark.parametrize("name", ["data", "data/raw", "models", "reports"])
def test_outputs_on_another_disk_are_refused_before_any_work_by_dvc(tmp_path, repository, name):
    (tmp_path / "here").mkdir()
    (repository / "params.yaml").rename(tmp_path / "here/params.yaml")
    link = tmp_path / "here" / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "disk")
    result = run(tmp_path / "here", "", DVC_STAGE="download")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {name}") and f"leads to {tmp_path}/disk" in result.stderr
    assert not (tmp_path / "here/started").exists()
    link.unlink()
    link.symlink_to(tmp_path / "here")  # in the repository: DVC takes it
    assert run(tmp_path / "here", "", DVC_STAGE="download").returncode == 0
    assert run(tmp_path / "here", "").returncode == 0
