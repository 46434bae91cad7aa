"""Stopping when asked to: SIGINT (Ctrl-C) and SIGTERM."""

import math
import os
import signal
import socket
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

WATCH_EVERY = 0.5  # seconds
DEBOUNCE_SECONDS = 2.0  # seconds in which a second signal says nothing new: see `_is_new`
PATIENCE = 8.0  # seconds from a signal to the end, however it comes: see `end_within_patience`


class Stopped(BaseException):
    """The process was asked to stop. A BaseException, as KeyboardInterrupt is: no `except Exception` swallows it.

    `immediate`: it was raised wherever the program was, so what it was at work on may be half done.
    """

    def __init__(self, signal_number: int, immediate: bool) -> None:
        self.signal_number = signal_number
        self.immediate = immediate


def raise_stopped(signal_number: int, frame: FrameType | None = None) -> None:
    """A signal handler: stop right here."""
    if _is_new():
        raise Stopped(signal_number, immediate=True)


def exit_with_parent() -> None:
    """Send this process SIGTERM once the one that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def end_within_patience() -> None:
    """End this process PATIENCE seconds after SIGINT or SIGTERM, where it has not ended until then, as SIGKILL would.

    Python's handlers wait until a native call returns, and to learn a vocabulary is one call of minutes. The signal's
    number, which the interpreter writes to a socket at once, wakes a thread instead. Only a call that keeps all other
    threads from running keeps this one, too. A training that has noted a first signal may take as long as it needs to
    end its step and save its state; a second signal ends it like any other stage.
    """
    listener, speaker = socket.socketpair()
    speaker.setblocking(False)
    signal.set_wakeup_fd(speaker.detach(), warn_on_full_buffer=False)

    def end(number: int, again: bool) -> None:
        if again or not _is_noted:
            os.write(2, f"error: not ended {PATIENCE:g} s after the signal; ended hard\n".encode())
            os._exit(128 + number)

    def listen() -> None:
        heard_at, again = math.inf, False
        while True:
            (number,) = listener.recv(1)
            now = time.monotonic()
            heard_at, again = now, again or now - heard_at >= DEBOUNCE_SECONDS
            if number in GracefulShutdown.SIGNALS:
                timer = threading.Timer(PATIENCE, end, (number, again))
                timer.daemon = True
                timer.start()

    threading.Thread(target=listen, name="signals", daemon=True).start()


_heard_at = -DEBOUNCE_SECONDS
_is_noted = False  # a first signal, by a GracefulShutdown, which will end in order


def _is_new() -> bool:
    """Whether a signal is more than the one before, sent again: it may come to a process itself, through its group, and
    because its parent got it and has ended. None of these is impatience; it should not break up the cleaning up."""
    global _heard_at
    before, _heard_at = _heard_at, time.monotonic()
    return _heard_at - before >= DEBOUNCE_SECONDS


class GracefulShutdown:
    """After `defer()`, in its block, a first signal is only noted, so that work ends where nothing is half done.

    `check()` raises `Stopped` once one has come. A second one raises it at once, wherever the program is, and so does
    any before `defer()`: compiling can take a minute, and there is nothing yet that could be saved.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number: int | None = None
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
        """From now on, wait for `check()`."""
        self._defers = True

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
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
