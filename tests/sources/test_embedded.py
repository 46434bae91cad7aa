"""The embedded source: the same bytes from any number of processes, and none of them left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.support.repository import PARAMS
from tests.support.sources import manifest, params, problem, splits
from tests.support.stage import STAGE, await_file, await_true
from tinystories.sources import embedded, storygen
from tinystories.sources.prepare import prepare
from tinystories.sources.storygen import blocks

pytestmark = pytest.mark.usefixtures("here")


def workers() -> list[psutil.Process]:
    """The processes that generate stories, and no others, which other tests may have left."""

    def generates(process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return blocks.__name__ in process.cmdline()
        return False

    return list(filter(generates, psutil.Process().children()))


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the number of processes, also for a few stories."""

    def use(count: int) -> None:
        monkeypatch.setattr(embedded, "usable_cores", lambda: count)
        monkeypatch.setattr(embedded, "STORIES_PER_PROCESS", 1)

    return use


def test_prepare_embedded_same_bytes_of_any_number_of_processes(processes):
    found = []
    for count in (1, 2, 3):
        processes(count)
        prepare(params("embedded", seed=7, stories=1100))
        found.append(manifest())
    assert splits() == (list(storygen.stories(7, 0, 1100)), list(storygen.stories(7, 1100, 22)))
    assert found[0] == found[1] == found[2]
    assert not workers()


@pytest.mark.parametrize(
    ("stories", "cores", "count"),
    [(20_400, 2, 1), (40_000, 2, 2), (40_000, 8, 2), (10**6, 1, 1), (10**6, 8, 8), (10**8, 500, 12)],
)
def test_count_processes(monkeypatch, stories, cores, count):
    """The quickstart's 20,000 stories take as long as a process takes to start."""
    monkeypatch.setattr(embedded, "usable_cores", lambda: cores)
    assert embedded._count_processes(stories) == count


def test_prepare_embedded_one_line_where_a_process_dies(processes):
    processes(2)

    def kill_one() -> None:
        await_true(lambda: len(workers()) == 2)
        workers()[1].kill()

    thread = threading.Thread(target=kill_one)
    thread.start()
    message = problem(params("embedded", stories=10**7))
    thread.join()
    assert message.startswith("a process that generates stories ended by signal 9 (Killed)")
    assert not workers()


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGKILL", -9)])
def test_stage_download_leaves_no_process(name, status):
    """The signal goes to the whole group, as Ctrl-C does."""
    body = "from tinystories.sources import embedded; embedded.usable_cores = lambda: 3"
    body += "; embedded.prepare_embedded(params.data.embedded.model_copy(update={'stories': 10**7}))"
    Path("params.yaml").write_bytes(PARAMS.read_bytes())
    command = [sys.executable, "-c", STAGE.format(body=body)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as stage:
        part = Path("data/raw/.train.txt.part")
        await_file(part)
        await_true(lambda: part.stat().st_size > 0)
        workers = psutil.Process(stage.pid).children()
        assert len(workers) == 3
        os.killpg(stage.pid, getattr(signal, name))
        _, errors = stage.communicate(timeout=60)
        assert (stage.returncode, errors) == (status, "")
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert name == "SIGKILL" or not list(part.parent.iterdir())
