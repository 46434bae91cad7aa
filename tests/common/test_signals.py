"""Signals: work that ends in order, and stages that end in any case."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.support.stage import STAGE, await_file, await_true, run_script
from tinystories.common import signals
from tinystories.common.signals import GracefulShutdown, Stopped


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, the handlers of the test run stay. Signals need no pause between them."""
    monkeypatch.setattr(signals, "DEBOUNCE_SECONDS", 0.0)
    before = {number: signal.getsignal(number) for number in GracefulShutdown.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", GracefulShutdown.SIGNALS)
def test_graceful_shutdown_first_signal_noted_second_immediate(number):
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
def test_graceful_shutdown_immediate_before_defer(number):
    """The first step compiles for up to a minute."""
    with pytest.raises(Stopped) as caught, GracefulShutdown():
        os.kill(os.getpid(), number)
        pytest.fail("the signal should have stopped this")
    assert (caught.value.signal_number, caught.value.immediate) == (number, True)


@pytest.mark.usefixtures("handlers")
def test_graceful_shutdown_debounces(monkeypatch):
    """As from `timeout`, which signals a process and its group, or from DVC's end after its group was signalled."""
    monkeypatch.setattr(signals, "DEBOUNCE_SECONDS", 60.0)
    monkeypatch.setattr(signals, "_received_at", -60.0)
    with GracefulShutdown() as stop:
        stop.defer()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as caught:
            stop.check()
    assert (caught.value.signal_number, caught.value.immediate) == (signal.SIGINT, False)
    signal.signal(signal.SIGTERM, signals.raise_stopped)
    os.kill(os.getpid(), signal.SIGTERM)  # nor does it disturb the cleaning up after the first


@pytest.mark.usefixtures("handlers")
def test_graceful_shutdown_restores_handlers():
    before = [signal.getsignal(number) for number in GracefulShutdown.SIGNALS]
    with pytest.raises(ValueError, match="x"), GracefulShutdown():
        assert [signal.getsignal(number) for number in GracefulShutdown.SIGNALS] != before
        raise ValueError("x")
    assert [signal.getsignal(number) for number in GracefulShutdown.SIGNALS] == before


def test_stopped_is_no_exception():
    assert not issubclass(Stopped, Exception)


def test_exit_with_parent_ends_stage(stage_directory):
    """After `kill -9` of DVC it would run in vain, at the same time as the next one."""
    stage = STAGE.format(body="try: time.sleep(60)\n    finally: Path('ended').touch()")
    dvc = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {stage!r}])"]
    with subprocess.Popen(dvc, cwd=stage_directory, env={**os.environ, "DVC_STAGE": "train"}) as parent:
        await_file(stage_directory / "started")
        parent.kill()
    await_file(stage_directory / "ended")


# The only thread that could run Python's handlers waits in the C library for a lock that it has itself.
HANG = "lock = ctypes.create_string_buffer(64); [ctypes.CDLL(None).pthread_mutex_lock(lock) for _ in range(2)]"
SEND = "threading.Timer({after}, os.kill, (os.getpid(), signal.{name})).start()"
SOON = "import ctypes, threading; from tinystories.common import signals; signals.GRACE_SECONDS = 0.3; "


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_exit_after_grace_in_native_call(stage_directory, name, status):
    result = run_script(stage_directory, SOON + SEND.format(after=0.1, name=name) + "; " + HANG)
    assert (result.returncode, result.stderr) == (status, "error: not ended 0.3 s after the signal; ended hard\n")


@pytest.mark.parametrize(("rest", "error"), [("time.sleep(1)", ""), (HANG, "error: not ended 0.3 s after ")])
def test_exit_after_grace_lets_a_noted_signal_save(stage_directory, rest, error):
    body = f"""{SOON} signals.DEBOUNCE_SECONDS = 0.0
    with signals.GracefulShutdown() as stop:
        stop.defer()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
        Path("saved").touch()
        {SEND.format(after=0.1, name="SIGTERM")}
        {rest}
        Path("unheard").touch()"""
    result = run_script(stage_directory, body)
    assert result.returncode == 143 and result.stderr.startswith(error) and bool(result.stderr) == bool(error)
    assert (stage_directory / "saved").exists() and not (stage_directory / "unheard").exists()


def test_exit_with_parent_in_native_call(stage_directory):
    stage = STAGE.format(body=f"{SOON} Path('started').write_text(str(os.getpid())); {HANG}")
    dvc = [sys.executable, "-c", f"import subprocess; subprocess.run([{sys.executable!r}, '-c', {stage!r}])"]
    with subprocess.Popen(dvc, cwd=stage_directory, env={**os.environ, "DVC_STAGE": "train"}) as parent:
        await_file(stage_directory / "started")
        await_true(lambda: (stage_directory / "started").read_text() != "")
        parent.kill()
    process = int((stage_directory / "started").read_text())
    try:
        await_true(lambda: not psutil.pid_exists(process) or psutil.Process(process).status() == psutil.STATUS_ZOMBIE)
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
