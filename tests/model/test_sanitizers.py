"""The C++ kernels under address and undefined-behaviour sanitizers. Needs g++ with its sanitizers' libraries."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT

# Little optimisation: it would remove some of what is undefined, and compiling takes a third of the time.
FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=all -D_GLIBCXX_ASSERTIONS"
# New memory is full of NaN, in fp32 as in bf16. What Python leaves behind at its end is no matter.
OPTIONS = "detect_leaks=0:max_malloc_fill_size=1000000000:malloc_fill_byte=255"


@pytest.fixture
def sanitized(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that compiles and runs the kernels with sanitizers."""
    compiler = tmp_path / "g++"
    compiler.write_text(f'#!/bin/sh\nexec g++ "$@" {FLAGS}\n')
    compiler.chmod(0o755)
    source = tmp_path / "nothing.cpp"
    source.write_text("#include <vector>\n")
    try:
        link = [str(compiler), "-shared", "-fPIC", str(source), "-o", str(tmp_path / "nothing.so")]
        subprocess.run(link, capture_output=True, check=True)
        find = ["g++", "-print-file-name=libasan.so"]
        library = Path(subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no compiler that has sanitizers ({error})")
    if not library.is_absolute():  # as the compiler answers where it has none
        pytest.skip("the compiler has no shared library of its address sanitizer")
    # The library has to come before all others. Threads that wait must not take the time of those that work.
    threads = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    return os.environ | {"CXX": str(compiler), "LD_PRELOAD": str(library), "ASAN_OPTIONS": OPTIONS} | threads


@pytest.mark.slow
def test_kernels_pass_sanitizers(sanitized):
    command = [sys.executable, "-m", "tests.model.every_kernel"]
    done = subprocess.run(command, cwd=ROOT, env=sanitized, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "every kernel was called" in done.stdout
