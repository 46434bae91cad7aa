"""Experiments with a real DVC and a real MLflow store: named runs, and those that train nothing. Needs git."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.support.repository import Repository, results


def test_experiments_have_named_runs(finished: Repository, two_epochs: Repository, tmp_path: Path) -> None:
    repository = two_epochs.copy_with_record(tmp_path / "project")

    def experiment(*options: str) -> set[str]:
        repository.run("dvc", "exp", "run", *options)
        return {run.info.run_name for run in repository.runs()}

    first = finished.only_run()
    assert {run.info.run_name for run in repository.runs()} == {first.info.run_name, "two-epochs"}
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
    assert experiment("--temp", "--name", "elsewhere", "-S", "train.learning_rate=0.03") == names
    assert "elsewhere" in repository.run("dvc", "exp", "show", "--no-pager", "--csv")
    # The same again trains nothing and makes no second run.
    assert experiment("--name", "again", "-S", "train.epochs=2") == names
    assert len(repository.runs()) == 3
    database = repository.path / "mlflow.db"
    assert database.exists()
    database.unlink()
    repository.run("dvc", "repro", "--force", "--single-item", "publish")
    back = repository.only_run()
    assert results(back) == results(two)
    assert back.info.run_name == "two-epochs"
    assert "checkpoint/model.safetensors" in repository.artifacts(back)


def test_evaluation_experiment_has_its_own_run(repository: Repository) -> None:
    repository.run("dvc", "exp", "run", "--name", "rounded", "-S", "evaluate.precision=bf16")
    runs = {run.data.params["evaluate.precision"]: run for run in repository.runs()}
    assert len(runs) == len(repository.runs()) == 2
    assert runs["bf16"].info.run_name == "rounded" != runs["fp32"].info.run_name
    assert runs["bf16"].data.tags["pipeline.training_run"] == runs["fp32"].info.run_id
    assert runs["bf16"].data.metrics["final/valid_loss"] == repository.read("reports/evaluate.json")["valid_loss"]
    assert runs["bf16"].data.metrics["final/valid_loss"] != runs["fp32"].data.metrics["final/valid_loss"]
    assert repository.points(runs["bf16"], "train/loss") == repository.points(runs["fp32"], "train/loss")


def test_other_prompts_train_nothing(two_epochs: Repository, tmp_path: Path) -> None:
    """They make new samples of all epochs, and a run of their own, which has them."""
    repository = two_epochs.copy_with_record(tmp_path / "project")
    first, key = repository.read("models/run.json")["run_id"], repository.read("models/run.json")["key"]
    states = sorted((repository.path / ".state/train").glob("*/step-*"))
    pages = ("epoch_1.md", "epoch_2.md", "final.md")
    before = [(repository.path / "reports/samples" / page).read_text() for page in pages]
    output = repository.run("dvc", "exp", "run", "--name", "dragon", "-S", "sample.prompts=[The dragon]")
    running = [line for line in output.splitlines() if line.startswith("Running stage")]
    assert running == [f"Running stage '{stage}':" for stage in ("evaluate", "plot", "publish")]
    assert sorted((repository.path / ".state/train").glob("*/step-*")) == states
    assert repository.read("models/run.json")["key"] == key
    runs = {run.info.run_name: run for run in repository.runs()}
    dragon = runs["dragon"]
    assert dragon.data.tags["pipeline.training_run"] == first != dragon.info.run_id
    assert dragon.data.params["sample.prompts"] == '["The dragon"]'
    directory = Path(unquote(urlsplit(dragon.info.artifact_uri).path))
    for page, text in zip(pages, before, strict=True):
        new = (repository.path / "reports/samples" / page).read_text()
        assert "> The dragon" in new and "> The dragon" not in text
        assert new.split("## Unprompted")[1] == text.split("## Unprompted")[1], "the same weights"
        assert (directory / "samples" / page).read_text() == new
    assert "The dragon" in (repository.path / "reports/report.md").read_text()
