"""The whole pipeline with a real DVC and a real MLflow store, in a temporary repository. Needs git."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from tests.support.repository import ROOT, Repository


@pytest.fixture(scope="module")
def spare(finished: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A copy for tests that leave it as it was."""
    return finished.copy(tmp_path_factory.mktemp("spare") / "project")


def test_repro_writes_every_file(finished: Repository) -> None:
    for name in (
        "data/raw/train.txt", "data/raw/valid.txt", "data/raw/manifest.json", "data/tokenizer/tokenizer.json",
        "data/tokens/train.bin", "data/tokens/valid.bin", "data/tokens/meta.json", "models/checkpoint/config.json",
        "models/checkpoint/model.safetensors", "models/checkpoint/tokenizer.json", "models/run.json",
        "models/best/model.safetensors", "models/epochs/index.json",
        "reports/data.json", "reports/history.csv", "reports/epochs.csv", "reports/samples/epoch_1.md",
        "reports/samples/final.md", "reports/train.json", "reports/evaluate.json", "reports/stories.json",
        "reports/plot.png", "reports/report.md", "reports/report.html", "reports/model_card.md", "mlflow.db",
    ):  # fmt: skip
        assert (finished.path / name).stat().st_size > 0, name
    epochs = pd.read_csv(finished.path / "reports/epochs.csv")
    assert list(epochs)[:5] == ["epoch", "train_loss", "train_ppl", "valid_loss", "valid_ppl"]
    assert list(epochs["epoch"]) == [1]
    history = pd.read_csv(finished.path / "reports/history.csv")
    assert list(history["step"]) == [5, 10, 15, 20, 25, 30]
    assert list(history["tokens"]) == [step * 4 * 32 for step in history["step"]]
    assert history["loss"].iloc[-1] < history["loss"].iloc[0] < math.log(400) * 1.02


def test_repro_twice_does_nothing(finished: Repository) -> None:
    assert "up to date" in finished.run("dvc", "status")
    output = finished.run("dvc", "repro")
    assert "Running stage" not in output
    assert finished.run("git", "status", "--porcelain") == ""
    (state,) = (finished.path / ".state/train").glob("*/step-*")
    assert state.name.startswith("step-000000000030"), "its last, until others push it out"


def test_figures_agree_with_mlflow(finished: Repository) -> None:
    train, evaluation, run = (
        finished.read("reports/train.json"),
        finished.read("reports/evaluate.json"),
        finished.only_run(),
    )
    row = pd.read_csv(finished.path / "reports/epochs.csv").iloc[-1]
    assert train["train_loss"] == row["train_loss"]
    assert row["valid_loss"] == run.data.metrics["epoch/valid_loss"]
    assert evaluation["valid_loss"] == pytest.approx(row["valid_loss"], abs=1e-4)  # fp32 both, other batch sizes
    assert evaluation["valid_ppl"] == pytest.approx(math.exp(evaluation["valid_loss"]), abs=1e-3)
    meta = finished.read("data/tokens/meta.json")["valid"]
    bits = evaluation["valid_loss"] * (meta["tokens"] - 1) / meta["bytes"] / math.log(2)
    assert evaluation["valid_bits_per_byte"] == pytest.approx(bits, abs=1e-5)
    assert run.data.metrics["final/valid_bits_per_byte"] == evaluation["valid_bits_per_byte"]
    history = pd.read_csv(finished.path / "reports/history.csv")
    assert finished.points(run, "train/loss") == list(zip(history["step"], history["loss"], strict=True))


def test_mlflow_run_is_complete(finished: Repository) -> None:
    run = finished.only_run()
    assert run.info.status == "FINISHED"
    assert run.info.run_id == finished.read("models/run.json")["run_id"]
    assert run.data.tags["pipeline.key"] == finished.read("models/run.json")["key"]
    assert "Loss and perplexity" in run.data.tags["mlflow.note.content"]
    assert run.data.params["train.batch_size"] == "4"
    assert {
        "plot.png", "report.md", "report.html", "epochs.csv", "history.csv", "samples/epoch_1.md", "samples/final.md",
        "checkpoint/model.safetensors", "checkpoint/config.json", "checkpoint/tokenizer.json", "checkpoint/README.md",
        "params.yaml",
    } <= finished.artifacts(run)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"train__epochs": 3}, {"train", "plot", "publish"}),
        ({"seed": 7}, {"train", "evaluate", "plot", "publish"}),
        ({"model__layers": 1}, {"train", "plot", "publish"}),
        ({"sample__top_k": 3}, {"evaluate", "plot", "publish"}),
        ({"sample__prompts": ["The dragon"]}, {"evaluate", "plot", "publish"}),
        ({"evaluate__batch_size": 3}, {"evaluate", "plot", "publish"}),
        ({"checks__max_overlap": 0.2}, {"tokenize_to_memmap", "plot", "publish"}),
        ({"tokenizer__vocab_size": 390}, {"train_tokenizer", "plot", "publish"}),
        ({"data__embedded__stories": 310}, {"download", "plot", "publish"}),
        ({"data__tinystories__edition": "v1"}, {"plot", "publish"}),  # not the source that is used
        ({"data__engine": "ray"}, {"plot", "publish"}),  # it changes no byte of stories or tokens
        ({"mlflow__experiment": "other"}, {"plot", "publish"}),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_parameter_reruns_stages(finished: Repository, changes: dict[str, Any], touched: set[str]) -> None:
    before = (finished.path / "params.yaml").read_text()
    try:
        finished.change(**changes)
        status = json.loads(finished.run("dvc", "status", "--json"))
    finally:
        (finished.path / "params.yaml").write_text(before)
    assert set(status) == touched


def test_dvc_shows_metrics_and_plots(finished: Repository) -> None:
    metrics = json.loads(finished.run("dvc", "metrics", "show", "--json"))[""]["data"]
    assert metrics["reports/train.json"]["data"]["train_loss"] == finished.read("reports/train.json")["train_loss"]
    assert metrics["reports/evaluate.json"]["data"]["valid_bits_per_byte"] > 0
    assert metrics["reports/stories.json"]["data"]["real"]["stories"] == 2
    names = [name for file in metrics.values() for name in file["data"]]
    assert len(set(names) - {"train", "valid"}) == len(names) - 2 > 15, "each metric stands in one file"
    output = finished.run("dvc", "plots", "show", "--out", "plots", "--json")
    plots = json.loads(output)["data"]
    assert set(plots) == {"Learning rate", "reports/history.csv", "reports/epochs.csv", "reports/plot.png"}
    shutil.rmtree(finished.path / "plots", ignore_errors=True)


def stop_training(repository: Repository, number: signal.Signals, after: int, tries: int = 2) -> Path:
    """Run the pipeline, and stop it by this signal once a step after this one is saved. Returns the last state."""

    def last() -> Path:
        # Killed between saving one and deleting the last, it leaves two; and that of the small one, 30, still stands.
        return max((repository.path / ".state/train").glob("*/step-*"), key=lambda path: path.name)

    deadline = time.monotonic() + 240
    with subprocess.Popen(
        ["dvc", "repro"], cwd=repository.path, env=repository.environment, start_new_session=True
    ) as process:
        while int(last().name[5:17]) <= after:
            assert time.monotonic() < deadline
            if process.poll() is not None:  # a killed DVC leaves its lock behind, and says so once
                assert tries > 1
                return stop_training(repository, number, after, tries - 1)
            time.sleep(0.02)
        stages = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, number)
    _, alive = psutil.wait_procs(stages, timeout=60)  # a stage may save its state for longer than DVC lives
    assert not alive
    return last()


def test_stopped_training_resumes_identically(repository: Repository) -> None:
    """Stopped in order, then killed."""
    repository.change(train__steps_per_epoch=600, train__epochs=2, train__save_every=0.2)
    unstopped = repository.copy(repository.path.parent / "unstopped")
    stopped = stop_training(repository, signal.SIGTERM, 30)
    state = stop_training(repository, signal.SIGKILL, int(stopped.name[5:17]))
    assert int(state.name[5:17]) < 1200
    saved = json.loads((state / "trainer_state.json").read_text())["state"]

    try:
        output = repository.run("dvc", "repro")
    except AssertionError:  # a killed DVC leaves its lock behind, and says so once
        output = repository.run("dvc", "repro")
    assert "Resuming from step" in output
    unstopped.run("dvc", "repro", "evaluate")

    for name in (
        "models/checkpoint/model.safetensors", "models/epochs/epoch_1/model.safetensors", "models/epochs/index.json",
        "reports/samples/epoch_1.md", "reports/samples/epoch_2.md", "reports/evaluate.json",
        "reports/stories.json", "models/best/model.safetensors",
    ):  # fmt: skip
        assert (repository.path / name).read_bytes() == (unstopped.path / name).read_bytes(), name
    for name in ("history", "epochs"):
        mine, theirs = (pd.read_csv(r.path / f"reports/{name}.csv") for r in (repository, unstopped))
        timings = ["seconds", "tokens_per_second"]
        assert mine.drop(columns=timings, errors="ignore").equals(theirs.drop(columns=timings, errors="ignore"))
    run = repository.runs()[0]
    assert len(repository.runs()) == 2  # the small one, and this one: the same before and after the stop
    if saved["run_id"]:
        assert run.info.run_id == saved["run_id"]
    steps = [step for step, _ in repository.points(run, "train/loss")]
    assert steps == list(range(5, 1201, 5))
    states = {int(path.name[5:17]) for path in state.parents[1].glob("*/step-*")}
    assert states == {30, 1200}, "of the small one, and of this"


def test_shallow_clone_without_git(finished: Repository, tmp_path: Path) -> None:
    finished.run("git", "clone", "--quiet", "--depth", "1", finished.path.as_uri(), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    clone.environment["PATH"] = str(Path(sys.executable).parent)
    assert shutil.which("git", path=clone.environment["PATH"]) is None
    shutil.copytree(finished.path / ".dvc/cache", clone.path / ".dvc/cache")
    assert "is cached - skipping run" in clone.run("dvc", "repro")
    clone.run("dvc", "repro", "--force", "--single-item", "train")
    assert clone.read("models/run.json")["environment"]["git_commit"] is None
    weights = "models/checkpoint/model.safetensors"
    assert (clone.path / weights).read_bytes() == (finished.path / weights).read_bytes()


def test_clone_after_pull_only_publishes(repository: Repository, tmp_path: Path) -> None:
    repository.run("dvc", "remote", "add", "--quiet", "--default", "remote", str(tmp_path / "remote"))
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "remote")
    repository.run("dvc", "push", "--quiet")
    repository.run("git", "clone", "--quiet", str(repository.path), str(tmp_path / "clone"))
    clone = Repository(tmp_path / "clone")
    clone.run("dvc", "pull", "--quiet")
    output = clone.run("dvc", "repro")
    assert [line for line in output.splitlines() if line.startswith("Running stage")] == ["Running stage 'publish':"]
    assert clone.only_run().data.tags["pipeline.key"] == repository.only_run().data.tags["pipeline.key"]
    assert "up to date" in clone.run("dvc", "status")
    assert clone.run("git", "status", "--short") == "", "the receipt is the same in every store"


def test_same_key_trainings_do_not_overlap(repository: Repository) -> None:
    """As two `dvc exp run --temp` do: directories of their own, the state in one place."""
    key = repository.read("models/run.json")["key"]
    shutil.rmtree(repository.path / ".state/train")  # else nothing is left to train
    marker = repository.path.parent / "marker"
    at = {"program": "stages/train.py", "places": ["trainer.py:_log"], "line": 3, "slow": [], "marker": str(marker)}
    environment = {**repository.environment, "DVC_ROOT": str(repository.path)}
    halting = {"PYTHONPATH": str(ROOT / "tests/support/halting"), "HALT_AT": json.dumps(at)}
    places = [repository.copy(repository.path.parent / name) for name in ("first", "second", "third")]
    places[2].change(seed=7)

    def train(place: Repository, **more: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "stages/train.py"]
        return subprocess.Popen(command, cwd=place.path, env=environment | more, stdout=subprocess.PIPE, text=True)

    with train(places[0], **halting) as first:
        while not marker.exists():
            assert first.poll() is None
            time.sleep(0.02)
        with train(places[1]) as second, train(places[2]) as other:
            assert second.stdout and other.stdout
            assert f"The same training is already running (key {key[:12]}); waiting" in second.stdout.readline()
            assert "already running" not in other.stdout.read()
            assert other.wait() == 0
            assert first.poll() is second.poll() is None
            marker.unlink()
            assert first.wait() == second.wait() == 0

    def weights(place: Repository) -> bytes:
        return (place.path / "models/checkpoint/model.safetensors").read_bytes()

    assert weights(places[0]) == weights(places[1]) == weights(repository) != weights(places[2])
    runs = repository.runs()
    assert len(runs) == len({run.data.tags["pipeline.key"] for run in runs}) == 2
    for run in runs:
        assert [step for step, _ in repository.points(run, "train/loss")] == [5, 10, 15, 20, 25, 30]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train__epochs": 0}, "train.epochs is 0"),
        ({"model__heads": 5}, "model.heads is 5"),
        ({"model__context_length": 60_000}, "model.context_length is 60,000"),
        ({"tokenizer__vocab_size": 60_000}, "tokenizer.vocab_size is 60,000"),
        ({"data__source": "files"}, "data.files.train is 'data/own/train'; no documents in it"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_repro_refuses_bad_parameters(spare: Repository, changes: dict[str, Any], named: str) -> None:
    before = (spare.path / "params.yaml").read_text()
    spare.change(**changes)
    output = spare.run("dvc", "repro", fails=True)
    (spare.path / "params.yaml").write_text(before)
    spare.run("dvc", "checkout")  # what DVC took away before the stage refused
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert named in line
    assert "Traceback" not in output
