"""docs/team.md: an MLflow server on PostgreSQL that is killed. Needs PostgreSQL's programs, psycopg, local ports."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.repository import Repository, results

PROGRAMS = Path(os.path.realpath(shutil.which("initdb") or "/")).parent


@pytest.fixture
def database() -> Iterator[str]:
    """The address of an empty database, for as long as the test runs."""
    if not (PROGRAMS / "pg_ctl").exists() or not importlib.util.find_spec("psycopg"):
        pytest.skip("PostgreSQL or psycopg is not installed")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    directory, port = Path(tempfile.mkdtemp()), free_port()
    if user:
        shutil.chown(directory, user)

    def run(program: str, *words: str) -> None:
        command = [str(PROGRAMS / program), "-D", str(directory / "data"), *words]
        subprocess.run(command, user=user, cwd="/", check=True, timeout=60, stdout=subprocess.DEVNULL)

    run("initdb", "-U", "mlflow", "--auth=trust")
    run("pg_ctl", "-w", "-l", f"{directory}/log", "-o", f"-p {port} -k {directory} -h 127.0.0.1", "start")
    yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-w", "-m", "immediate", "stop")
    shutil.rmtree(directory)


class Server:
    """`mlflow server` in a group of processes, which can be killed all at once."""

    def __init__(self, repository: Repository, database: str) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.command = [
            sys.executable, "-m", "mlflow", "server", "--backend-store-uri", database, "--serve-artifacts",
            "--artifacts-destination", str(repository.path.parent / "artifacts"), "--port", str(self.port),
            "--workers", "1",
        ]  # fmt: skip
        self.repository = repository

    def start(self) -> None:
        self.log = (self.repository.path.parent / "server.log").open("a")
        self.process = subprocess.Popen(
            self.command, env=self.repository.environment, start_new_session=True, stdout=self.log, stderr=self.log
        )
        for left in range(240, -1, -1):
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            except OSError:
                assert left, Path(self.log.name).read_text()
                time.sleep(0.5)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()


@pytest.mark.slow
def test_publish_loses_nothing_when_the_server_is_killed(finished: Repository, database: str, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    repository = finished.copy(tmp_path / "project")
    server = Server(repository, database)
    repository.environment["MLFLOW_TRACKING_URI"] = server.address
    publish = ("dvc", "repro", "--force", "--single-item", "publish")
    assert f"run again: {' '.join(publish)}" in repository.run(*publish, fails=True)
    server.start()
    try:
        repository.run(*publish)
        server.kill()
        server.start()
        repository.run(*publish)
        client, original = MlflowClient(server.address), finished.only_run()
        (run,) = client.search_runs([client.get_experiment_by_name("tinystories").experiment_id])
        assert results(run) == results(original)
        for metric in results(original):
            history = client.get_metric_history(run.info.run_id, metric)
            assert [(point.step, point.value) for point in history] == finished.points(original, metric)
        assert run.info.artifact_uri.startswith("mlflow-artifacts:")
        stored = {path.name for path in (tmp_path / "artifacts").rglob("*") if path.is_file()}
        assert {Path(name).name for name in finished.artifacts(original)} <= stored
    finally:
        server.kill()
