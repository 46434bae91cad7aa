"""The whole pipeline, with a real DVC and a real MLflow store, in a repository of its own."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent

SMALL: dict[str, Any] = {
    "data.source": "embedded",
    "data.embedded.stories": 300,
    "tokenizer.vocab_size": 400,
    "model.context_length": 32,
    "model.embedding_size": 32,
    "model.layers": 2,
    "model.heads": 2,
    "train.batch_size": 4,
    "train.epochs": 1,
    "train.steps_per_epoch": 30,
    "train.precision": "fp32",
    "train.log_every": 5,
    "sample.max_new_tokens": 20,
    "sample.prompts": ["Once upon a time"],
}


class Repository:
    """A copy of the project's files as a git repository, and what one does in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.copies = 0
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW"))
        }
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(path.parent),
            "OMP_NUM_THREADS": "1",
            **{f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }

    def run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=300)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        return output

    def change(self, **changes: Any) -> None:
        """Change params.yaml; `__` stands for the dot."""
        path = self.path / "params.yaml"
        values = yaml.safe_load(path.read_text())
        for key, value in changes.items():
            *sections, name = key.split("__")
            section = values
            for part in sections:
                section = section[part]
            assert name in section
            section[name] = value
        path.write_text(yaml.safe_dump(values))

    def read(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())

    def client(self) -> Any:
        """Of a copy of the database: MLflow keeps a file open that this process has asked for, even a deleted one."""
        from mlflow import MlflowClient

        self.copies += 1
        copy = shutil.copy(self.path / "mlflow.db", self.path.parent / f"{self.path.name}-{self.copies}.db")
        return MlflowClient(f"sqlite:///{copy}")

    def runs(self) -> list[Any]:
        client = self.client()
        experiment = client.get_experiment_by_name("tinystories")
        return list(client.search_runs([experiment.experiment_id])) if experiment else []

    def only_run(self) -> Any:
        (run,) = self.runs()
        return run

    def artifacts(self, run: Any) -> set[str]:
        directory = Path(unquote(urlsplit(run.info.artifact_uri).path))
        return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}

    def points(self, run: Any, metric: str) -> list[tuple[int, float]]:
        history = self.client().get_metric_history(run.info.run_id, metric)
        return [(point.step, point.value) for point in history]

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository, its path with a space and an umlaut, in which `dvc repro` has run."""
    path = tmp_path_factory.mktemp("pipe line ü") / "project"
    path.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    repository = Repository(path)
    repository.change(**{key.replace(".", "__"): value for key, value in SMALL.items()})
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "small")
    repository.run("dvc", "repro")
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "first run")
    return repository


@pytest.fixture(scope="module")
def spare(finished: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy for tests that leave it as it was."""
    return finished.copy(tmp_path_factory.mktemp("spare") / "project")


@pytest.fixture
def repository(finished: Repository, tmp_path: Path) -> Iterator[Repository]:
    """A copy of the finished repository that a test may change. Its MLflow experiment still points to the original's
    artifacts, so the database starts anew."""
    copy = finished.copy(tmp_path / "project")
    for name in ("mlflow.db", "mlartifacts"):
        path = copy.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    copy.run("dvc", "repro", "--force", "--single-item", "publish")
    yield copy


def test_every_file_of_the_design_is_there(finished: Repository) -> None:
    for name in (
        "data/raw/train.txt", "data/raw/valid.txt", "data/raw/manifest.json", "data/tokenizer/tokenizer.json",
        "data/tokens/train.bin", "data/tokens/valid.bin", "data/tokens/meta.json", "models/checkpoint/config.json",
        "models/checkpoint/model.safetensors", "models/checkpoint/tokenizer.json", "models/run.json",
        "reports/history.csv", "reports/epochs.csv", "reports/samples/epoch_1.md", "reports/samples/final.md",
        "reports/train.json", "reports/evaluate.json", "reports/plot.png", "reports/report.md", "mlflow.db",
    ):  # fmt: skip
        assert (finished.path / name).stat().st_size > 0, name
    epochs = pd.read_csv(finished.path / "reports/epochs.csv")
    assert list(epochs)[:5] == ["epoch", "train_loss", "train_ppl", "valid_loss", "valid_ppl"]
    assert list(epochs["epoch"]) == [1]
    history = pd.read_csv(finished.path / "reports/history.csv")
    assert list(history["step"]) == [5, 10, 15, 20, 25, 30]
    assert list(history["tokens"]) == [step * 4 * 32 for step in history["step"]]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] < math.log(400) * 1.02


def test_nothing_is_left_to_do(finished: Repository) -> None:
    assert "up to date" in finished.run("dvc", "status")
    output = finished.run("dvc", "repro")
    assert "Running stage" not in output
    assert finished.run("git", "status", "--porcelain") == ""
    assert not list((finished.path / ".state/train").glob("*/step-*"))


def test_the_figures_agree_in_files_and_in_mlflow(finished: Repository) -> None:
    train, evaluation, run = (
        finished.read("reports/train.json"),
        finished.read("reports/evaluate.json"),
        finished.only_run(),
    )
    row = pd.read_csv(finished.path / "reports/epochs.csv").iloc[-1]
    assert train["valid_loss"] == row["valid_loss"] == run.data.metrics["epoch/valid_loss"]
    assert evaluation["valid_loss"] == pytest.approx(train["valid_loss"], abs=1e-4)  # fp32 both, other batch sizes
    assert evaluation["valid_ppl"] == pytest.approx(math.exp(evaluation["valid_loss"]), abs=1e-3)
    meta = finished.read("data/tokens/meta.json")["valid"]
    bits = evaluation["valid_loss"] * (meta["tokens"] - 1) / meta["bytes"] / math.log(2)
    assert evaluation["valid_bits_per_byte"] == pytest.approx(bits, abs=1e-5)
    assert run.data.metrics["final/valid_bits_per_byte"] == evaluation["valid_bits_per_byte"]
    history = pd.read_csv(finished.path / "reports/history.csv")
    assert finished.points(run, "train/loss") == list(zip(history["step"], history["loss"], strict=True))


def test_the_mlflow_run_holds_the_whole_record(finished: Repository) -> None:
    run = finished.only_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_id == finished.read("models/run.json")["run_id"]
    assert run.data.tags["pipeline.key"] == finished.read("models/run.json")["key"]
    assert "Loss and perplexity" in run.data.tags["mlflow.note.content"]
    assert run.data.params["train.batch_size"] == "4"
    assert {
        "plot.png", "report.md", "epochs.csv", "history.csv", "samples/epoch_1.md", "samples/final.md",
        "checkpoint/model.safetensors", "checkpoint/config.json", "checkpoint/tokenizer.json", "params.yaml",
    } <= finished.artifacts(run)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"train__epochs": 3}, {"train", "plot", "publish"}),
        ({"seed": 7}, {"train", "evaluate", "plot", "publish"}),
        ({"model__layers": 1}, {"train", "plot", "publish"}),
        ({"sample__top_k": 3}, {"train", "evaluate", "plot", "publish"}),
        ({"evaluate__batch_size": 3}, {"evaluate", "plot", "publish"}),
        ({"tokenizer__vocab_size": 390}, {"train_tokenizer", "plot", "publish"}),
        ({"data__embedded__stories": 310}, {"download", "plot", "publish"}),
        ({"data__tinystories__edition": "v1"}, {"plot", "publish"}),  # not the source that is used
        ({"mlflow__experiment": "other"}, {"plot", "publish"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_parameter_reruns_what_it_touches_and_nothing_else(
    finished: Repository, changes: dict[str, Any], touched: set[str]
) -> None:
    before = (finished.path / "params.yaml").read_text()
    try:
        finished.change(**changes)
        status = json.loads(finished.run("dvc", "status", "--json"))
    finally:
        (finished.path / "params.yaml").write_text(before)
    assert set(status) == touched


def test_dvc_shows_metrics_parameters_and_plots(finished: Repository) -> None:
    metrics = json.loads(finished.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert metrics["reports/train.json"]["data"]["valid_loss"] == finished.read("reports/train.json")["valid_loss"]
    assert metrics["reports/evaluate.json"]["data"]["valid_bits_per_byte"] > 0
    output = finished.run("dvc", "plots", "show", "--out", "plots", "--json")
    plots = json.loads(output)["data"]
    assert {"Loss", "Learning rate", "reports/plot.png"} <= set(plots)
    shutil.rmtree(finished.path / "plots", ignore_errors=True)


def test_experiments_are_runs_of_their_own_under_their_names(repository: Repository) -> None:
    def experiment(*options: str) -> set[str]:
        repository.run("dvc", "exp", "run", *options)
        return {run.info.run_name for run in repository.runs()}

    first = repository.only_run()
    assert experiment("--name", "two-epochs", "-S", "train.epochs=2") == {first.info.run_name, "two-epochs"}
    two = next(run for run in repository.runs() if run.info.run_name == "two-epochs")
    assert [step for step, _ in repository.points(two, "epoch/valid_loss")] == [30, 60]
    assert {"plot.png", "report.md", "epochs.csv", "samples/epoch_2.md", "checkpoint/model.safetensors"} <= (
        repository.artifacts(two)
    )
    assert repository.read("models/run.json")["run_id"] == two.info.run_id
    assert "train.epochs" in repository.run("dvc", "params", "diff")
    assert "valid_loss" in repository.run("dvc", "metrics", "diff")
    # Elsewhere on the disk, and yet in the same database.
    names = {first.info.run_name, "two-epochs", "elsewhere"}
    assert experiment("--temp", "--name", "elsewhere", "-S", "train.learning_rate=0.01") == names
    assert "elsewhere" in repository.run("dvc", "exp", "show", "--no-pager", "--csv")
    # The same again trains nothing and makes no second run.
    assert experiment("--name", "again", "-S", "train.epochs=2") == names
    assert len(repository.runs()) == 3
    database = repository.path / "mlflow.db"
    assert database.exists()
    database.unlink()
    repository.run("dvc", "repro", "--force", "--single-item", "publish")
    back = repository.only_run()
    assert back.data.metrics == two.data.metrics
    assert back.info.run_name == "two-epochs"
    assert "checkpoint/model.safetensors" in repository.artifacts(back)


def test_a_queue_of_experiments(repository: Repository) -> None:
    repository.run("dvc", "exp", "run", "--queue", "-S", "train.learning_rate=0.005,0.01")
    repository.run("dvc", "exp", "run", "--run-all")
    rates = {run.data.params["train.learning_rate"] for run in repository.runs()}
    assert rates == {"0.02", "0.005", "0.01"}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_training_goes_on_and_ends_with_the_same_bits(repository: Repository, number: signal.Signals) -> None:
    repository.change(train__steps_per_epoch=600, train__epochs=2, train__save_every=0.2)
    unstopped = repository.copy(repository.path.parent / "unstopped")
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=repository.path, env=repository.environment, start_new_session=True
    )
    states = repository.path / ".state/train"
    deadline = time.monotonic() + 120
    while not any(int(path.name[5:]) > 20 for path in states.glob("*/step-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, number)
    process.wait(60)
    (state,) = states.glob("*/step-*")
    assert 20 < int(state.name[5:]) < 1200
    record = json.loads((state / "record.json").read_text())["record"]

    try:
        output = repository.run("dvc", "repro")
    except AssertionError:  # a killed DVC leaves its lock behind, and says so once
        output = repository.run("dvc", "repro")
    assert "Going on from step" in output
    unstopped.run("dvc", "repro", "evaluate")

    for name in ("models/checkpoint/model.safetensors", "reports/samples/epoch_2.md", "reports/evaluate.json"):
        assert (repository.path / name).read_bytes() == (unstopped.path / name).read_bytes(), name
    for name in ("history", "epochs"):
        mine, theirs = (pd.read_csv(r.path / f"reports/{name}.csv") for r in (repository, unstopped))
        timings = ["seconds", "tokens_per_second"]
        assert mine.drop(columns=timings, errors="ignore").equals(theirs.drop(columns=timings, errors="ignore"))
    run = repository.runs()[0]
    assert len(repository.runs()) == 2  # the small one, and this one: the same before and after the stop
    if record["run_id"]:
        assert run.info.run_id == record["run_id"]
    steps = [step for step, _ in repository.points(run, "train/loss")]
    assert steps == list(range(5, 1201, 5))
    assert not list(states.glob("*/step-*"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train__epochs": 0}, "train.epochs is 0"),
        ({"model__heads": 5}, "model.heads is 5"),
        ({"model__context_length": 60_000}, "model.context_length is 60,000"),
        ({"tokenizer__vocab_size": 60_000}, "tokenizer.vocab_size is 60,000"),
        ({"data__source": "files"}, "data.files.train is empty"),
        ({"data__source": "files", "data__files__train": "nowhere.txt"}, "nowhere.txt"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_bad_parameters_are_refused_in_one_line(spare: Repository, changes: dict[str, Any], named: str) -> None:
    before = (spare.path / "params.yaml").read_text()
    spare.change(**changes)
    output = spare.run("dvc", "repro", fails=True)
    (spare.path / "params.yaml").write_text(before)
    spare.run("dvc", "checkout")  # what DVC took away before the stage refused
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert named in line
    assert "Traceback" not in output
