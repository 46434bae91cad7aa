"""Stopping when asked to: SIGINT (Ctrl-C) and SIGTERM."""

import signal
from types import FrameType, TracebackType
from typing import Any, Self


class Stopped(BaseException):
    """The process was asked to stop. A BaseException, as KeyboardInterrupt is: no `except Exception` swallows it.

    `at_once`: it was raised wherever the program was, so what it was at work on may be half done.
    """

    def __init__(self, signal_number: int, at_once: bool) -> None:
        self.signal_number = signal_number
        self.at_once = at_once


def raise_stopped(signal_number: int, frame: FrameType | None = None) -> None:
    """A signal handler: stop right here."""
    raise Stopped(signal_number, at_once=True)


class StopRequest:
    """While the block runs, a first signal is only noted, so that work ends where nothing is half done.

    `check()` raises `Stopped` once one has come. A second signal raises it at once, wherever the program is.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number: int | None = None
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

    def check(self) -> None:
        """Raise `Stopped` if a signal has come."""
        if self.signal_number is not None:
            raise Stopped(self.signal_number, at_once=False)

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:
            raise Stopped(signal_number, at_once=True)
        self.signal_number = signal_number
