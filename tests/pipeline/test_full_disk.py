"""Full and read-only disks: one line of error, no half-written file, the next run continues. Needs root to mount."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from tests.conftest import SmallDisk
from tests.support.faulty_server import DATA, WHOLE, Server
from tests.support.report_files import epoch_rows, history_rows
from tests.support.repository import PARAMS
from tests.support.small_training import NoRun, lay_out_tokens
from tinystories.common import paths
from tinystories.common.files import write_json, write_text
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.reading import read_json
from tinystories.common.signals import GracefulShutdown
from tinystories.common.stage import run_stage
from tinystories.corpus.stories import write_stories
from tinystories.encoding.writer import write_tokens
from tinystories.evaluation.evaluate import evaluate
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.reporting.figure import plot_run
from tinystories.sources.hub import fetch
from tinystories.sources.prepare import prepare
from tinystories.tokenizer_training.bpe import save_tokenizer
from tinystories.training.resume import ResumeCheckpoint, TrainerState
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train

OTHER_USER = 65534


@pytest.fixture
def disk(small_disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallDisk]:
    """The repository lies on the small disk."""
    monkeypatch.chdir(small_disk.path)
    monkeypatch.setenv("DVC_ROOT", str(small_disk.path))
    shutil.copy(PARAMS, small_disk.path)
    handlers = {number: signal.getsignal(number) for number in GracefulShutdown.SIGNALS}
    yield small_disk
    for number, handler in handlers.items():
        signal.signal(number, handler)


def message(work: Callable[[], object]) -> str:
    """Return the error, one line, of a stage that does this work."""
    with pytest.raises(SystemExit) as ended:
        run_stage(lambda params: work())  # type: ignore[arg-type]
    signal.set_wakeup_fd(-1)  # or the stage's grace ends this process, some tests later, after their second signal
    said = str(ended.value.code)
    assert said.startswith("error: ") and len(said.splitlines()) == 1
    return said.removeprefix("error: ")


def final_files(directory: Path) -> dict[str, bytes]:
    """All files but those whose name or place says that they are not finished."""

    def passing(path: Path) -> bool:
        names = path.relative_to(directory).parts
        return names[:2] == (".state", "downloads") or any(
            name in ("filler", "tmp") or name.endswith((".part", ".lock")) for name in names
        )

    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file() and not passing(path)}


Write = Callable[[int], object]  # the argument makes one content differ from the other


@pytest.fixture
def writes(
    server: Server, stories: list[str], tokenizer: Tokenizer, random_model: Callable[..., GPT], tokenizer_file: Path
) -> dict[str, tuple[Path, Write]]:
    """Every kind of file, and how the project writes it."""
    many, state = stories * 40, ResumeCheckpoint(Path(".state/train/key"))
    kept = Path(".state/downloads/train.txt")
    return {
        "download": (kept, lambda n: fetch(server.url, kept, **WHOLE)),
        "stories": (Path("data/raw/valid.txt"), lambda n: write_stories(Path("data/raw/valid.txt"), many[n:])),
        "tokenizer": (paths.TOKENIZER, lambda n: save_tokenizer(tokenizer, paths.TOKENIZER)),
        "tokens": (paths.TOKENS_TRAIN, lambda n: write_tokens(many[n:], tokenizer, paths.TOKENS_TRAIN, 1)),
        "state": (
            Path(".state/train/key"),
            lambda n: state.save({"weights": torch.full((9999,), float(n))}, TrainerState(started="then", step=n)),
        ),
        "checkpoint": (
            paths.CHECKPOINT,
            lambda n: save_checkpoint(random_model(seed=n), tokenizer_file, paths.CHECKPOINT),
        ),
        "table": (paths.HISTORY, lambda n: write_text(paths.HISTORY, f"step,loss\n{n},1.0\n" * 999)),
        "metrics": (paths.EVALUATION, lambda n: write_json(paths.EVALUATION, {"valid_loss": [n] * 5000})),
        "sample": (paths.SAMPLES, lambda n: write_text(paths.FINAL_SAMPLES, f"{n}\n" + "Once upon a time.\n" * 999)),
        "plot": (paths.PLOT, lambda n: plot_run(history_rows(3), epoch_rows(3), paths.PLOT, f"GPT {n}")),
    }


KINDS = ["download", "stories", "tokenizer", "tokens", "state", "checkpoint", "table", "metrics", "sample", "plot"]


@pytest.mark.parametrize("room", [0, 4096])
@pytest.mark.parametrize("kind", KINDS)
def test_write_on_a_full_disk(disk, writes, kind, room):
    path, write = writes[kind]
    write(1)
    before = final_files(disk.path)
    disk.fill(but=room)
    said = message(lambda: write(2))
    assert said.endswith(": No space left on device")
    place = {"checkpoint": "models/.checkpoint.part/", "download": ".state/downloads/"}.get(kind, str(path))
    assert place in said
    assert final_files(disk.path) == before
    disk.make_room()
    write(2)
    assert path.is_dir() or path.stat().st_size > 4096
    assert kind in ("download", "tokenizer") or final_files(disk.path) != before
    if kind == "download":
        assert path.read_bytes() == DATA


def test_save_flushes_before_deleting(tmp_path, monkeypatch):
    """Else a power cut between the two would leave neither."""
    flushed, fsync = [], os.fsync

    def note(descriptor: int) -> None:
        flushed.append((os.fstat(descriptor).st_ino, sorted(path.name for path in tmp_path.glob("step-*"))))
        fsync(descriptor)

    state = ResumeCheckpoint(tmp_path)
    state.save({"weights": torch.zeros(9)}, TrainerState(started="then", step=1))
    monkeypatch.setattr(os, "fsync", note)
    state.save({"weights": torch.ones(9)}, TrainerState(started="then", step=2))
    new = tmp_path / "step-000000000002"
    for name in ("tensors.safetensors", "trainer_state.json"):
        assert ((new / name).stat().st_ino, ["step-000000000001"]) in flushed


@contextmanager
def not_allowed(directory: Path) -> Iterator[None]:
    """Forbid writing here; root, who may write everywhere, becomes another user meanwhile."""
    found = [directory, *(path for path in directory.rglob("*") if path.is_dir())]
    modes = {path: path.stat().st_mode for path in found}
    root = os.geteuid() == 0
    for path in found:
        path.chmod(0o555)
    try:
        if root:
            os.seteuid(OTHER_USER)
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(stat.S_IMODE(mode))


@pytest.mark.parametrize("kind", KINDS)
def test_write_without_permission(tmp_path, monkeypatch, writes, kind):
    shutil.copy(PARAMS, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    handlers = {number: signal.getsignal(number) for number in GracefulShutdown.SIGNALS}
    _, write = writes[kind]
    write(1)
    before = final_files(tmp_path)
    try:
        with not_allowed(tmp_path):
            said = message(lambda: write(2))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert said.endswith(": Permission denied") and "/" in said
    assert final_files(tmp_path) == before
    write(2)


def test_training_survives_a_full_disk(disk, stories, tokenizer, small_params, no_run, monkeypatch, capsys):
    """The last state stays valid; with room again the training resumes, to the same bits as one without trouble."""
    changes = {"save_every": 1e-9, "log_every": 5}
    params: Params = small_params.model_copy(update={"train": small_params.train.model_copy(update=changes)})
    lay_out_tokens(stories, tokenizer)
    train(params, None)
    expected = (paths.CHECKPOINT / "model.safetensors").read_bytes()
    for room in (paths.CHECKPOINT, Path(".state")):
        shutil.rmtree(room)
    step = TrainStep.step

    def fill(engine: TrainStep, index: int) -> None:
        step(engine, index)
        if index == 7:
            disk.fill(but=20_000)

    monkeypatch.setattr(TrainStep, "step", fill)
    said = message(lambda: train(params, None))
    assert said.endswith("tensors.safetensors: No space left on device") and ".state/train/" in said
    assert no_run.ended == ["FINISHED", "FAILED"]
    assert [path.name for path in Path(".state/train").glob("*/step-*")] == ["step-000000000007"]
    monkeypatch.setattr(TrainStep, "step", step)
    disk.make_room()
    capsys.readouterr()
    train(params, None)
    assert "Resuming from step 7" in capsys.readouterr().out
    assert (paths.CHECKPOINT / "model.safetensors").read_bytes() == expected


def test_results_without_room_are_written_later(disk, stories, tokenizer, small_params, no_run, monkeypatch):
    """The last step is saved before, so that no step is done again."""
    lay_out_tokens(stories, tokenizer)
    close = NoRun.close

    def fill(live: NoRun, status: str) -> None:
        close(live, status)
        if status == "FINISHED":
            disk.fill(but=8192)

    monkeypatch.setattr(no_run, "close", fill)
    said = message(lambda: train(small_params, None))
    assert said.endswith(": No space left on device")
    assert not paths.CHECKPOINT.exists() and not paths.RUN.exists()
    monkeypatch.setattr(no_run, "close", close)
    disk.make_room()
    monkeypatch.setattr(TrainStep, "step", lambda engine, index: pytest.fail("a step was done again"))
    train(small_params, None)
    assert read_json(paths.TRAIN_METRICS)["steps"] == 20

    disk.fill()
    assert message(lambda: evaluate(small_params)).endswith(": No space left on device")
    assert not paths.EVALUATION.exists() and not list(paths.SAMPLES.glob("*.md"))
    disk.make_room()
    evaluate(small_params)
    assert paths.EVALUATION.exists()


def test_prepare_reads_a_read_only_corpus(small_disk, tmp_path, monkeypatch, stories):
    write_stories(small_disk.path / "stories.txt", [f"{number} {story}" for number, story in enumerate(stories * 9)])
    small_disk.forbid_writing()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    params = load_params(PARAMS)
    (tmp_path / "none").mkdir()
    places = {"train": str(small_disk.path), "valid": "none"}
    files = params.data.files.model_copy(update={**places, "held_out": 0.1})
    data = params.data.model_copy(update={"source": "files", "files": files})
    prepare(params.model_copy(update={"data": data}))
    counted = read_json(paths.RAW_MANIFEST)
    assert counted["train"]["stories"] + counted["valid"]["stories"] == 540


def test_train_reads_read_only_tokens(disk, stories, tokenizer, small_params, no_run, tmp_path, monkeypatch):
    """As DVC has them where its cache is shared by links."""
    lay_out_tokens(stories, tokenizer)
    disk.forbid_writing()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    Path("data").symlink_to(disk.path / "data")
    train(small_params, None)
    assert no_run.ended == ["FINISHED"]


def test_stage_ends_when_stdout_is_full(tmp_path, monkeypatch):
    """A log on a full disk: the stage ends in order."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    shutil.copy(PARAMS, tmp_path)
    script = (
        "from tinystories.common.console import info; from tinystories.common.stage import run_stage; "
        "run_stage(lambda _: info('x'))"
    )
    with full.open("w") as stdout:
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stdout=stdout, stderr=-1, text=True)
    assert done.returncode != 0 and "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
