"""A stage script of a few lines, run as a process of its own, and waiting for what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

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


def run_script(directory: Path, body: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", STAGE.format(body=body)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, cwd=directory, env=variables, capture_output=True, text=True, timeout=60)


def await_file(path: Path) -> None:
    await_true(path.exists)


def await_true(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
