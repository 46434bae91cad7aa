"""Ends work at a line of a function, as a kill there would."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


class Killed(BaseException):
    """No code handles it but `finally`."""


def kill(place: Callable[..., Any], line: int, work: Callable[[], object]) -> bool:
    """Work until that line in `place`, counted as they run. False where the work ends before."""
    count = 0

    def look(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        if count == line:
            count += 1
            raise Killed
        return look

    sys.settrace(lambda frame, *rest: look(frame, *rest) if frame.f_code is place.__code__ else None)
    try:
        work()
    except Killed:
        return True
    finally:
        sys.settrace(None)
    return False
