"""A temporary repository in which tests run the whole pipeline with a real DVC and a real MLflow store."""

import atexit
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[2]


def staged(name: str) -> bytes:
    """Return a file as git has it: `make quickstart`, as any experiment, leaves its own in the working tree.

    From the index, so that a change can be tested before it is committed: git add it first.
    """
    return subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, check=True).stdout


PARAMS = Path(tempfile.mkdtemp(), "params.yaml")
atexit.register(shutil.rmtree, PARAMS.parent)
PARAMS.write_bytes(staged("params.yaml"))

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
    "train.warmup_steps": 0,
    "train.precision": "fp32",
    "train.log_every": 5,
    "evaluate.stories": 2,
    "sample.max_new_tokens": 20,
    "sample.prompts": ["Once upon a time"],
}

TIMINGS = ["seconds", "startup_seconds", "tokens_per_second"]


def results(run: Any) -> dict[str, float]:
    """The metrics of an MLflow run, without the machine's load, which is in no file."""
    return {name: value for name, value in run.data.metrics.items() if not name.startswith("system/")}


class Repository:
    """A copy of the project's files as a git repository, and commands in it."""

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
        done = subprocess.run(command, cwd=self.path, env=self.environment, capture_output=True, text=True, timeout=900)
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

    def result(self) -> dict[str, Any]:
        """Collect all that a finished pipeline repeats: files, figures and MLflow's runs, without any timings."""
        rooms = [path for room in ("data", "models", "reports") for path in (self.path / room).rglob("*")]
        found: dict[str, Any] = {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in rooms
            if path.is_file() and path.name not in ("run.json", "publish.json", "report.md", "report.html", "plot.png")
        }
        for name in ("reports/history.csv", "reports/epochs.csv"):
            found[name] = pd.read_csv(self.path / name, dtype=str).drop(columns=TIMINGS, errors="ignore").to_csv()
        train = self.read("reports/train.json")
        found["reports/train.json"] = {name: value for name, value in train.items() if name not in TIMINGS}
        states = (path for path in (self.path / ".state").rglob("*") if path.suffix != ".lock")
        # Of a step, the state that was saved again has a number more; how often that was, a stop decides.
        found["names"] = {re.sub(r"\+\d+", "", str(path.relative_to(self.path))) for path in (*rooms, *states)}
        found["MLflow"] = [
            (
                run.info.status,
                run.data.tags["pipeline.key"],
                run.data.params,
                self.artifacts(run),
                {
                    # By step: what a stopped stream could not send any more, `publish` adds at the end.
                    metric: sorted(
                        (step, 0 if "per_second" in metric else value) for step, value in self.points(run, metric)
                    )
                    for metric in results(run)
                },
            )
            for run in self.runs()
        ]
        return found

    def copy(self, path: Path) -> "Repository":
        shutil.copytree(self.path, path, symlinks=True)
        return Repository(path)

    def copy_with_record(self, path: Path) -> "Repository":
        """Make one whose MLflow store is its own, as if all had been recorded there."""
        copy = self.copy(path)
        places = [f"{quote(str(repository.path))}/" for repository in (self, copy)]
        with closing(sqlite3.connect(copy.path / "mlflow.db")) as database, database:
            for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                for _, column, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                    change = 'UPDATE {0} SET "{1}" = replace("{1}", ?, ?) WHERE instr("{1}", ?)'
                    database.execute(change.format(table, column), (*places, places[0]))
        return copy


def new_repository(path: Path, **changes: Any) -> Repository:
    """Copy the project's files as they are now to `path`, with small parameters, committed; nothing has run."""
    path.mkdir()
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if (ROOT / name).is_file():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, path / name)
    for name in ("params.yaml", "dvc.lock"):
        (path / name).write_bytes(staged(name))
    repository = Repository(path)
    repository.change(**{key.replace(".", "__"): value for key, value in SMALL.items()} | changes)
    repository.run("git", "init", "--quiet", "--initial-branch=main")
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "small")
    return repository


def make_repository(path: Path) -> Repository:
    """Make a new repository, run `dvc repro` and commit all."""
    repository = new_repository(path)
    repository.run("dvc", "repro")
    repository.run("git", "add", ".")
    repository.run("git", "commit", "--quiet", "--message", "first run")
    return repository


def preset(name: str) -> list[str]:
    """The changes that one of the Makefile's presets makes, such as `QUICKSTART`."""
    found = re.search(
        rf"^{name} := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert found
    return found[1].replace("\\\n", " ").split()
