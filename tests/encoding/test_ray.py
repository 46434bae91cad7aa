"""Encoding by Ray: the same files as without it, whatever dies, and nothing that stays behind."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec

import psutil
import pytest

from tests.support.repository import PARAMS, ROOT
from tests.support.stage import await_true
from tinystories.common import paths
from tinystories.common.engine import check_engine
from tinystories.common.errors import UserError
from tinystories.corpus.stories import StoryBlock, blocks_of, read_blocks, write_stories
from tinystories.encoding import ray_engine, writer
from tinystories.tokenizer_training.bpe import save_tokenizer

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")


@pytest.fixture(scope="module")
def ray_here() -> Iterator[ray_engine.RayEncoder]:
    """A cluster of this machine, a worker for each core."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        before = {process.pid for process in family()}
        with ray_engine.cluster() as encoder:
            yield encoder
        assert {process.pid for process in family()} <= before


def family() -> list[psutil.Process]:
    """All processes of Ray on this machine."""
    names = ("ray::", "raylet", "gcs_server", "ray_driver", "ray/dashboard", "ray/_private")
    found = []
    for process in psutil.process_iter(["status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(name in line(process) for name in names):
            found.append(process)
    return found


def line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.mark.slow
@needs_ray
def test_ray_writes_the_files_of_the_local_run(tmp_path, monkeypatch, stories, tokenizer, ray_here):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writer, "read_blocks", partial(read_blocks, block_size=300))
    save_tokenizer(tokenizer, paths.TOKENIZER)
    write_stories(paths.RAW_TRAIN, stories * 3)
    write_stories(paths.RAW_VALID, stories[:9])
    files = (paths.TOKENS_TRAIN, paths.TOKENS_VALID, paths.TOKENS_META)
    writer.tokenize_to_memmap("local")
    local = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    monkeypatch.setattr(ray_engine, "cluster", lambda: nullcontext(ray_here))
    monkeypatch.setattr(writer, "encode_blocks", None)
    writer.tokenize_to_memmap("ray")
    assert [path.read_bytes() for path in files] == local


@pytest.mark.slow
@needs_ray
def test_ray_survives_a_killed_worker(tmp_path, stories, tokenizer, ray_here):
    """It is stopped, seen to be in a task, and then killed."""
    (block,) = blocks_of(stories * 2_000, 1 << 30)  # takes a worker longer than to find it
    killed: list[int] = []
    given = 0

    def until_killed() -> Iterator[StoryBlock]:
        nonlocal given
        deadline = time.monotonic() + 60
        while not killed:
            assert time.monotonic() < deadline
            given += 1
            yield block
            kill_one()
        given += 1
        yield block

    def kill_one() -> None:
        for worker in (process for process in family() if "ray::encode_block" in line(process)):
            worker.suspend()
            if "ray::encode_block" in line(worker):
                worker.kill()
                killed.append(worker.pid)
                return
            worker.resume()

    there = writer.write_blocks(until_killed(), tokenizer, tmp_path / "there.bin", 1, ray_here.encode_blocks)
    here = writer.write_blocks([block] * given, tokenizer, tmp_path / "here.bin", 1)
    assert there == here
    assert (tmp_path / "there.bin").read_bytes() == (tmp_path / "here.bin").read_bytes()


@pytest.mark.slow
@needs_ray
def test_ray_has_few_blocks_on_their_way(stories, tokenizer, ray_here):
    taken = 0

    def counted() -> Iterator[StoryBlock]:
        nonlocal taken
        for block in blocks_of(stories * 30, 300):
            taken += 1
            yield block

    for done, _ in enumerate(ray_here.encode_blocks(counted(), tokenizer)):
        assert taken - done <= ray_here.limit
    assert done + 1 == taken > 10 * ray_here.limit


@pytest.mark.slow
@needs_ray
def test_error_in_a_worker_is_one_line(tokenizer, ray_here):
    """The last of this cluster's tests: the driver has ended."""
    with pytest.raises(UserError, match="^encoding failed in a worker of Ray: UnicodeDecodeError"):
        list(ray_here.encode_blocks([StoryBlock(b"\xff" * 9, 1)], tokenizer))


@pytest.mark.slow
@needs_ray
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_stopped_stage_leaves_no_process(tmp_path, stories, tokenizer, monkeypatch, number):
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tokenizer, paths.TOKENIZER)
    write_stories(paths.RAW_TRAIN, stories)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    params = PARAMS.read_text()
    (tmp_path / "params.yaml").write_text(params.replace("engine: local", "engine: ray"))
    before = {process.pid for process in family()}
    stage = subprocess.Popen([sys.executable, ROOT / "stages/tokenize_to_memmap.py"], stderr=subprocess.PIPE, text=True)
    # Ray's agents outlive a driver that ends while they start.
    await_true(lambda: any("dashboard/agent" in line(process) for process in family() if process.pid not in before))
    stage.send_signal(number)
    start = time.monotonic()
    _, error = stage.communicate(timeout=120)
    assert (stage.returncode, error) == (128 + number, "")
    assert time.monotonic() - start < 10
    assert {process.pid for process in family()} <= before
    assert not list((tmp_path / "data/tokens").glob("*"))


def test_without_ray_one_line_with_the_command(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("not installed: pip install -c constraints.txt '.[ray]'")):
        check_engine("ray")
    check_engine("local")


@needs_ray
@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", r"where no Ray cluster answers \(.*refused\)"),
        ("ray://127.0.0.1:10001", "it should be HOST:PORT of the cluster's head"),
        ("head", "it should be HOST:PORT of the cluster's head"),
        ("head:99999999999999999999", "where no Ray cluster answers"),
    ],
)
def test_address_without_a_cluster_is_one_line(monkeypatch, address, message):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"^RAY_ADDRESS is '{re.escape(address)}'[,;] {message}"):
        check_engine("ray")


@needs_ray
def test_address_that_is_silent_is_one_line(monkeypatch):
    """A program that is no cluster takes the connection and says nothing."""
    monkeypatch.setattr(ray_engine, "ANSWER_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        check_engine("ray")
        start = time.monotonic()
        with pytest.raises(UserError, match=r"where no Ray cluster answers \(not in 2 s\)"), ray_engine.cluster():
            pass
        assert time.monotonic() - start < 10
