"""Halt one process at one line of its code, so that a signal surely hits it there.

kill_points.py puts this folder on PYTHONPATH.

HALT_AT is JSON: the `program` to halt (how its script's path ends), the `places` whose lines count ("resume.py:save"),
at which `line` of them to halt, places that are `slow` until then, and the `marker`: a file that appears, holding the
process' id, when it halts; when that is gone, the process continues. `after`: lines count once this file has been
written.

COUNT_STEPS is a file to which trainings log their steps: see counting.py.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

MAX_SECONDS = 300.0  # seconds, should no signal end it


def halt(places: list[str], line: int, slow: list[str], marker: Path, after: str) -> None:
    known: dict[CodeType, Any] = {}
    seen, start = 0, time.time()

    def begun() -> bool:
        return not after or (Path(after).exists() and Path(after).stat().st_mtime > start)

    def watched(code: CodeType) -> Any:
        for wanted, watcher in ((places, on_line), (slow, on_slow_line)):
            for file, name in (place.split(":") for place in wanted):
                if code.co_name == name and code.co_filename.endswith(file):
                    return watcher
        return None

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in known:
            known[code] = watched(code)
        return known[code]

    def on_slow_line(frame: FrameType, event: str, argument: Any) -> Any:
        if seen < line:
            time.sleep(0.02)
        return on_slow_line

    def on_line(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal seen
        seen += event == "line" and begun()
        if seen == line and event == "line":
            sys.settrace(None)
            whole = marker.with_suffix(f".{os.getpid()}")
            whole.write_text(f"{os.getpid()} {frame.f_code.co_name}:{frame.f_lineno}")
            whole.rename(marker)
            until = time.monotonic() + MAX_SECONDS
            while marker.exists() and time.monotonic() < until:
                time.sleep(0.005)
        return on_line

    threading.settrace(on_call)
    sys.settrace(on_call)


if "HALT_AT" in os.environ:
    at = json.loads(os.environ["HALT_AT"])
    if any(argument.endswith(at["program"]) for argument in sys.orig_argv[1:2]):
        halt(at["places"], at["line"], at["slow"], Path(at["marker"]), at.get("after", ""))

if "COUNT_STEPS" in os.environ and any(argument.endswith("stages/train.py") for argument in sys.orig_argv[1:2]):
    from counting import count  # type: ignore[import-not-found]  # in this folder

    count(os.environ["COUNT_STEPS"])
