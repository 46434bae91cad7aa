"""What several test files need: small parameters, a small tokenizer, token files made with it."""

import atexit
import getpass
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # transformers loads what a test wrote, and nothing else
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for tensors as small as these, threads only wait for each other
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as in the stages
# What PyTorch compiles is kept from one test run to the next, in its own usual place.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", f"{tempfile.gettempdir()}/torchinductor_{getpass.getuser()}")
# What is compiled of the project's own is kept for one test run, and the processes that it starts. The compiler that
# does so lies in one place for all checkouts, because PyTorch finds what it has compiled by the compiler's name.
if "CXX" not in os.environ:
    os.environ["KEPT_KERNELS"] = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, os.environ["KEPT_KERNELS"])
    compiler = Path(tempfile.gettempdir(), f"compiler_{getpass.getuser()}", "g++")
    compiler.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copy(Path(__file__).with_name("support") / "g++", os.environ["KEPT_KERNELS"])
    Path(os.environ["KEPT_KERNELS"], "g++").replace(compiler)
    os.environ["CXX"] = str(compiler)

import pytest
import torch
from hypothesis import settings
from tokenizers import Tokenizer

from tests.support.repository import PARAMS, Repository, make_repository
from tests.support.small_training import NoRun, lay_out_tokens
from tinystories.common.artifacts import TokenFile
from tinystories.common.params import ModelConfig, Params
from tinystories.common.params_file import load_params
from tinystories.encoding.writer import write_tokens
from tinystories.model.gpt import GPT
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer

# A shell ignores Ctrl-C for what it runs in the background, and so would the programs that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Triton decides on import whether kernels run in its interpreter (tests/training/gpu).
if not torch.cuda.is_available() and importlib.util.find_spec("triton"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        importlib.import_module("triton")

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as `pipeline` by the fixtures of a repository or a disk, and Triton's tests as `slow`."""
    for item in items:
        if {"finished", "repository", "small_disk", "two_epochs"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("pipeline")
        if item.path.parent.name == "gpu":  # where there is no GPU, Triton interprets each kernel
            item.add_marker("slow")


@pytest.fixture(scope="session")
def stories() -> list[str]:
    """Stories of few words, some with letters beyond ASCII, always the same."""
    draw = random.Random(0)
    names = ["Lily", "Tom", "Zoë", "the dragon 🐉", "Anna"]
    deeds = ["went to the park", "saw a big tree", "was very happy", "found a little ball", "said: “Hello!”"]
    return [
        "\n".join(f"One day, {draw.choice(names)} {draw.choice(deeds)}." for _ in range(draw.randint(1, 6)))
        for _ in range(60)
    ]


@pytest.fixture(scope="session")
def tokenizer(stories: list[str]) -> Tokenizer:
    return train_tokenizer(stories, vocab_size=300, total_bytes=1)


@pytest.fixture(scope="session")
def tokenizer_file(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_tokenizer(tokenizer, path)
    return path


@pytest.fixture(scope="session")
def token_file(
    stories: list[str], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TokenFile]:
    """The stories as tokens; for reading only."""
    path = tmp_path_factory.mktemp("tokens") / "train.bin"
    return path, write_tokens(stories, tokenizer, path, total_bytes=1)


@pytest.fixture(scope="session")
def config() -> ModelConfig:
    """Every size differs from the others, so that a mixed-up axis is found."""
    return ModelConfig(context_length=12, embedding_size=24, layers=3, heads=2)


@pytest.fixture(scope="session")
def small_params(config: ModelConfig) -> Params:
    """The committed parameters with a small model, a short training and rates that outlive a change of the defaults."""
    params = load_params(PARAMS)
    train = params.train.model_copy(
        update={
            "batch_size": 4, "epochs": 2, "steps_per_epoch": 10, "device": "cpu", "precision": "fp32",
            "warmup_steps": 0, "learning_rate": 0.02, "embedding_learning_rate": 0.004,
        }
    )  # fmt: skip
    sample = params.sample.model_copy(update={"max_new_tokens": 20})
    evaluate = params.evaluate.model_copy(update={"stories": 0})
    changes = {"model": config, "train": train, "sample": sample, "evaluate": evaluate, "seed": 5}
    return params.model_copy(update=changes)


@pytest.fixture(scope="session")
def random_model(config: ModelConfig) -> Callable[..., GPT]:
    """Makes a model in which every weight, also gains and output projections, is random and matters."""
    import torch

    def make(config: ModelConfig = config, vocab_size: int = 300, seed: int = 0) -> GPT:
        model = GPT(config, vocab_size)
        model.initialize(seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                noise = torch.randn(weight.shape, generator=generator)
                if "norm" in name:
                    weight.copy_(1 + 0.3 * noise)
                else:  # strong blocks, else the tied output mostly repeats its input
                    weight.copy_(noise * (0.2 if name == "embedding" else 0.4))
        return model

    return make


@pytest.fixture(scope="module")
def kernels() -> Iterator[dict[Any, Any]]:
    """What this process has compiled, nothing yet, for a test file to add to; afterwards all is as before."""
    from tinystories.model.cpu_kernels import _kernels

    before = dict(_kernels)
    _kernels.clear()
    yield _kernels
    _kernels.clear()
    _kernels.update(before)


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where nothing has been compiled."""
    monkeypatch.setattr("tinystories.model.cpu_kernels._kernels", {})


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository in which `dvc repro` has run, its path with a space and an umlaut; for reading only."""
    return make_repository(tmp_path_factory.mktemp("pipe line ü") / "project")


@pytest.fixture
def repository(finished: Repository, tmp_path: Path) -> Repository:
    """A copy of the finished repository that a test may change, with an MLflow record of its own."""
    return finished.copy_with_record(tmp_path / "project")


@pytest.fixture(scope="session")
def two_epochs(finished: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The finished repository after an experiment of two epochs, named `two-epochs`; for reading only."""
    repository = finished.copy_with_record(tmp_path_factory.mktemp("two epochs") / "project")
    repository.run("dvc", "exp", "run", "--name", "two-epochs", "-S", "train.epochs=2")
    return repository


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stories: list[str], tokenizer: Tokenizer) -> Path:
    """The current directory, with what the stages before `train` write; what outlives a stage goes there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    lay_out_tokens(stories, tokenizer)
    return tmp_path


@pytest.fixture
def no_run(monkeypatch: pytest.MonkeyPatch) -> type[NoRun]:
    """Trainings tell MLflow nothing."""
    from tinystories.training import trainer as training

    run = type("Run", (NoRun,), {"ended": []})
    monkeypatch.setattr(training, "AsyncRunLogger", run)
    return run


class SmallDisk:
    """A disk of a few megabytes, to be filled to the last byte."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self, but: int = 0) -> None:
        """Leave this many bytes, in whole pages."""
        free = shutil.disk_usage(self.path).free
        self._filler.write_bytes(bytes(max(free - but, 0)))

    def make_room(self) -> None:
        self._filler.unlink()

    def forbid_writing(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    path = tmp_path / "small disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a disk that is full can only be had with the right to mount one")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
