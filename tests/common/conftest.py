"""Directories for fuzz tests and for stage scripts, and the count of what fuzz tests tried."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fuzz import refused, slowest, tried
from tests.support.repository import PARAMS

MAX_MEMORY = 1_000_000  # kilobytes


@pytest.fixture(scope="module")
def fuzz_report(request: pytest.FixtureRequest) -> Iterator[None]:
    """Print how many inputs a file of tests has tried, and check that they did not fill the memory."""
    for counts in (tried, refused, slowest):
        counts.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    capture: Any = request.config.pluginmanager.get_plugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{tried.total():,} inputs tried, {refused.total():,} refused; memory grew by {grown / 1e3:.0f} MB")
        if "FUZZ_EXAMPLES" in os.environ:
            for what, count in tried.items():
                print(f"  {what}: {count:,}, refused {refused[what]:,}, slowest {slowest[what]:.2f} s")
    assert grown < MAX_MEMORY


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture
def stage_directory(tmp_path: Path) -> Path:
    """Where a stage script can run: it has the committed parameters."""
    (tmp_path / "params.yaml").write_bytes(PARAMS.read_bytes())
    return tmp_path
