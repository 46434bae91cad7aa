"""A stage script of a few lines, run as a process of its own."""

import os
import subprocess
import sys
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
