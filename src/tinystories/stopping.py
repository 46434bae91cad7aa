"""Stopping when asked to: SIGINT (Ctrl-C) and SIGTERM."""

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Self

WATCH_EVERY = 0.5  # seconds
SAME_WISH = 2.0  # seconds in which a second signal says nothing new: see `_is_new`


class Stopped(BaseException):
    """The process was asked to stop. A BaseException, as KeyboardInterrupt is: no `except Exception` swallows it.

    `at_once`: it was raised wherever the program was, so what it was at work on may be half done.
    """

    def __init__(self, signal_number: int, at_once: bool) -> None:
        self.signal_number = signal_number
        self.at_once = at_once


def raise_stopped(signal_number: int, frame: FrameType | None = None) -> None:
    """A signal handler: stop right here."""
    if _is_new():
        raise Stopped(signal_number, at_once=True)


def stop_with_parent() -> None:
    """Send this process SIGTERM once the one that started it has ended."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


_heard_at = -SAME_WISH


def _is_new() -> bool:
    """Whether a signal is more than the one before, sent again: it may come to a process itself, through its group, and
    because its parent got it and has ended. None of these is impatience; it should not break up the cleaning up."""
    global _heard_at
    before, _heard_at = _heard_at, time.monotonic()
    return _heard_at - before >= SAME_WISH


class StopRequest:
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
            raise Stopped(self.signal_number, at_once=False)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        if self._defers and self.signal_number is None:
            _is_new()
            self.signal_number = signal_number
        else:
            raise_stopped(signal_number)
