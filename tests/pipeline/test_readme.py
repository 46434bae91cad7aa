"""The README's commands do what the README shows. Needs git, DVC, MLflow, a local port, and transformers."""

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.corpora import json_lines
from tests.support.repository import ROOT, Repository, preset
from tinystories.corpus.stories import read_stories

PORT = 5917
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines()]


def test_files_that_are_named_exist(finished: Repository) -> None:
    """All outputs among them."""
    for name in re.findall(r"`((?:data|models|reports|stages|src|docs)/[\w./]+)`", README):
        assert (finished.path / name).exists(), name


@pytest.fixture
def server(finished: Repository, tmp_path: Path) -> Iterator[str]:
    """Serves `stories.jsonl.gz`, of stories in JSON lines."""
    served = tmp_path / "served"
    served.mkdir()
    rows = [{"text": story} for story in read_stories(finished.path / "data/raw/train.txt")]
    (served / "stories.jsonl.gz").write_bytes(gzip.compress(json_lines(rows)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_commands_run_in_order(repository: Repository, server: str) -> None:
    """All that can run here, in their order: without a network, and without an environment to install."""
    (repository.path / "my_stories").mkdir()
    shutil.copy(repository.path / "data/raw/train.txt", repository.path / "my_stories/one.txt")
    repository.environment["COLUMNS"] = "300"  # else `dvc exp show`, without a pager here, leaves out columns
    for command in commands():
        if command.startswith(("source ", "make ", "mlflow ui")):
            continue
        output = repository.run("bash", "-c", command.replace("https://example.org", server))
        if command.startswith("git checkout"):
            assert "Updated" in output
        if command.startswith("dvc exp show"):
            assert {"valid_loss", "train.epochs", "train.learning_rate", "model.layers"} <= set(
                re.findall(r"[\w.]+", output)
            )
            assert not re.search("train_loss|seconds|tokens|train.batch_size|stages/", output)
    parameters = [run.data.params for run in repository.runs()]
    varied = {name for name in parameters[0] if len({values[name] for values in parameters}) > 1}
    assert {"data.source", "data.files.path", "train.epochs", "train.learning_rate", "model.layers"} <= varied
    assert (repository.path / "reports/dvc_plots/index.html").exists()


def test_reference_run_comes_last() -> None:
    """Who follows the page meets no command after it that would mean hours."""
    assert commands()[-2:] == ["git checkout params.yaml", "make reproduce"]


def test_first_experiment_differs_from_the_quickstart() -> None:
    first = next(command for command in commands() if re.fullmatch(r"dvc exp run -S [a-z_.]+=\d+", command))
    assert first in (ROOT / "Makefile").read_text(encoding="utf-8")  # the quickstart ends with it
    assert first.split()[-1] not in preset("SMALL") + preset("QUICKSTART")


def test_mlflow_ui_shows_the_runs(repository: Repository) -> None:
    assert "mlflow ui" in commands()
    command = ["mlflow", "ui", "--port", str(PORT), "--workers", "1"]
    with subprocess.Popen(
        command, cwd=repository.path, env=repository.environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            assert process.stdout
            address = next(line for line in process.stdout if "running on" in line)
            assert "127.0.0.1" in address  # no other host can connect
            request = urllib.request.Request(
                f"http://127.0.0.1:{PORT}/api/2.0/mlflow/experiments/search",
                data=b'{"max_results": 10}',
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert b'"tinystories"' in answer.read()
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_snippet_opens_the_checkpoint(finished: Repository) -> None:
    (snippet,) = blocks("python")
    output = finished.run(sys.executable, "-c", snippet)
    assert "Once upon a time" in output
