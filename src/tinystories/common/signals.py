"""Graceful shutdown on SIGINT (Ctrl-C) and SIGTERM, and a hard exit where that takes too long."""

import math
import os
import signal
import socket
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

from tinystories.common.errors import UserError

POLL_SECONDS = 0.5  # between checks of the parent process
DEBOUNCE_SECONDS = 2.0  # in which a second signal counts as the first: see `_is_new`
GRACE_SECONDS = 8.0  # from a signal to a hard exit: see `exit_after_grace`


class Stopped(BaseException):
    """The process was asked to stop. A BaseException like KeyboardInterrupt: no `except Exception` catches it.

    `immediate`: raised at an arbitrary line, so that the current work may be half done.
    """

    def __init__(self, signal_number: int, immediate: bool) -> None:
        self.signal_number = signal_number
        self.immediate = immediate


def raise_stopped(signal_number: int, frame: FrameType | None = None) -> None:
    """Signal handler: raise `Stopped` at the current line."""
    if _is_new():
        raise Stopped(signal_number, immediate=True)


def exit_with_parent() -> None:
    """Send SIGTERM to this process when its parent has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def exit_after_grace() -> None:
    """Exit hard, as SIGKILL does, if the process has not ended GRACE_SECONDS after SIGINT or SIGTERM.

    Python's handlers wait until a native call returns, and training a tokenizer is one call of minutes. The interpreter
    writes the signal's number to a socket at once, which wakes a thread. Only a call that holds the GIL blocks it.

    A training that has noted a first signal may take as long as it needs to end its step and save its state. A second
    signal gives it GRACE_SECONDS, as any other stage.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.detach(), warn_on_full_buffer=False)

    def end(number: int, again: bool) -> None:
        if again or not _is_noted:
            os.write(2, f"error: not ended {GRACE_SECONDS:g} s after the signal; ended hard\n".encode())
            os._exit(128 + number)

    def listen() -> None:
        received_at, again = math.inf, False
        while True:
            (number,) = receiver.recv(1)
            now = time.monotonic()
            received_at, again = now, again or now - received_at >= DEBOUNCE_SECONDS
            if number in GracefulShutdown.SIGNALS:
                timer = threading.Timer(GRACE_SECONDS, end, (number, again))
                timer.daemon = True
                timer.start()

    threading.Thread(target=listen, name="signals", daemon=True).start()


_received_at = -DEBOUNCE_SECONDS
_is_noted = False  # a GracefulShutdown has a first signal and will stop in order


def _is_new() -> bool:
    """Whether this signal is a new request, and not the one before, delivered again.

    One request may arrive directly, through the process group, and because the parent has ended. A repetition must not
    interrupt the clean-up.
    """
    global _received_at
    before, _received_at = _received_at, time.monotonic()
    return _received_at - before >= DEBOUNCE_SECONDS


class GracefulShutdown:
    """Defer the first signal after `defer()` until `check()`, so that work stops where nothing is half done.

    A second signal raises `Stopped` at once, and so does any before `defer()`: compiling can take a minute, and there
    is nothing to save yet.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self.failure: str | None = None  # why the work cannot go on, set by another thread
        self._defers = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        for number in self.SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def defer(self) -> None:
        """From now on, let a first signal wait for `check()`."""
        self._defers = True

    def check(self) -> None:
        """Raise `Stopped` if a signal has arrived, UserError where another thread has noted a failure."""
        if self.failure is not None:
            raise UserError(self.failure)
        if self.signal_number is not None:
            raise Stopped(self.signal_number, immediate=False)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        global _is_noted
        if self._defers and self.signal_number is None:
            _is_new()
            self.signal_number = signal_number
            _is_noted = True
        else:
            raise_stopped(signal_number)
