"""The store: its address, databases that are moved, copied and shared, directories with any name."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from tests.support.mlflow_runs import (
    KEY,
    artifacts,
    change_run_file,
    client_of,
    publish_in_a_process,
    runs,
)
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_store import connect, tracking_uri


@pytest.mark.parametrize(
    ("environment", "configured", "expected"),
    [
        ("http://a.example", "http://b.example", "http://a.example"),
        ("", "http://b.example", "http://b.example"),
        ("", "", "sqlite:///{root}/mlflow.db"),
        ("", "sqlite:///sub/other.db", "sqlite:///{root}/sub/other.db"),
        ("sqlite:////elsewhere/m.db", "", "sqlite:////elsewhere/m.db"),
    ],
)
def test_tracking_uri_prefers_the_environment(tmp_path, monkeypatch, environment, configured, expected):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    root = tmp_path / "a b ö"
    assert tracking_uri(configured, root) == expected.replace("{root}", root.as_posix())


OPEN_A_RUN = """
import sys
from pathlib import Path
from tinystories.tracking.mlflow_run import open_run_to_log
run = open_run_to_log(uri=sys.argv[1], experiment="tinystories", root=Path(sys.argv[2]), key=sys.argv[3], params={},
                run_id=None, name=None)
print(run.id)
"""


def places(root: Path) -> dict[str, set[Path]]:
    """The directories that the database names, by table."""
    columns = {"experiments": "artifact_location", "runs": "artifact_uri", "logged_models": "artifact_location",
               "model_versions": "source"}  # fmt: skip
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        return {
            table: {Path(url2pathname(urlsplit(uri).path)) for (uri,) in database.execute(f"SELECT {uri} FROM {table}")}
            for table, uri in columns.items()
        }


def tree(directory: Path) -> dict[str, tuple[int, int]]:
    """Every file below, with its size and the time of its last change."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def recorded(root, files):
    """A repository with a run, a model of it, and an experiment that somebody keeps elsewhere."""
    run_id = publish(load_params(), root)
    client = client_of(root)
    client.create_experiment("of somebody", artifact_location=(root.parent / "elsewhere" / "mlartifacts").as_uri())
    number = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(number, "model", source_run_id=run_id)
    Path(url2pathname(urlsplit(model.artifact_location).path)).mkdir(parents=True)
    client.create_registered_model("model")
    client.create_model_version("model", model.artifact_location, run_id)
    return run_id


def assert_all_in(root: Path) -> None:
    """Every place that the database names is in this repository, and is there; but for the one of somebody."""
    found = places(root)
    assert root.parent / "elsewhere" / "mlartifacts" in found["experiments"]
    found["experiments"] -= {root.parent / "elsewhere" / "mlartifacts"}
    assert found["experiments"] == {root / "mlartifacts", root / "mlartifacts" / "0"}
    for table in ("runs", "logged_models", "model_versions"):
        assert found[table] and all(place.is_relative_to(root / "mlartifacts") for place in found[table]), found
        assert all(place.exists() for place in found[table]), found


@pytest.mark.slow
def test_moved_repository_keeps_its_runs(root, recorded):
    for there in (root.with_name("moved to ü"), root):  # and back
        before = root if there != root else root.with_name("moved to ü")
        before.rename(there)
        change_run_file(key=there.name.encode().hex()[:8] * 8)
        said = publish_in_a_process(there)
        assert (
            f"MLflow's files go to {there / 'mlartifacts'} from now on, no longer to {before / 'mlartifacts'}" in said
        )
        assert "no longer" not in publish_in_a_process(there)  # said once
        assert not before.exists()
        assert_all_in(there)


@pytest.mark.slow
def test_copy_never_writes_to_the_original(root, recorded):
    copy = root.with_name("copy of it")
    shutil.copytree(root, copy)
    before = tree(root)
    paths.REPORT.write_text("# Told again\n")  # of the run that both have
    publish_in_a_process(copy)
    change_run_file(key="c" * 64)
    publish_in_a_process(copy)
    assert tree(root) == before
    assert_all_in(copy)
    report = f"mlartifacts/{recorded}/artifacts/report.md"
    assert (copy / report).read_text() == "# Told again\n" != (root / report).read_text()

    before = tree(copy)
    change_run_file(key="d" * 64)
    publish_in_a_process(root)
    assert tree(copy) == before
    assert_all_in(root)


@pytest.mark.slow
def test_copy_without_artifacts_reads_those_of_the_original(root, recorded):
    copy = root.with_name("copy of it")
    copy.mkdir()
    shutil.copy(root / "mlflow.db", copy)
    before = tree(root)
    change_run_file(key="c" * 64)
    publish_in_a_process(copy)
    assert root / "mlartifacts" / recorded / "artifacts" in places(copy)["runs"]
    change_run_file(key=KEY)
    publish_in_a_process(copy)
    assert all(place.is_relative_to(copy) and place.exists() for place in places(copy)["runs"])
    assert tree(root) == before


SIGNS = ["feature%2Fdragons", "why?x=1", "100 % a#b + ü@c;d&e='f'"]


@pytest.mark.parametrize("name", SIGNS)
def test_directory_may_have_any_name(files, root, fresh_database, name, monkeypatch):
    from mlflow.tracking._tracking_service.utils import _get_default_tracking_uri

    place = root.parent / "place"
    there = place / name
    there.mkdir(parents=True)
    shutil.copy(fresh_database, there / "mlflow.db")
    run_id = publish(load_params(), there)
    assert [path.name for path in place.iterdir()] == [name]
    assert sorted(path.name for path in there.iterdir()) == ["mlartifacts", "mlflow.db", "mlflow.db.lock"]
    assert (there / "mlartifacts" / run_id / "artifacts" / "report.md").read_text() == paths.REPORT.read_text()
    client = client_of(there)
    assert [run.info.run_id for run in runs(client)] == [run_id]
    assert "checkpoint/config.json" in artifacts(client, run_id)
    # `mlflow ui` at the root.
    monkeypatch.chdir(there)
    assert _get_default_tracking_uri() == "sqlite:///mlflow.db"


def test_connect_creates_a_database_in_any_directory(tmp_path, root):
    there = tmp_path / "place" / "50%25?"
    there.mkdir(parents=True)
    connect(tracking_uri("", there))
    assert [path.name for path in there.parent.iterdir()] == [there.name]
    assert sorted(path.name for path in there.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.slow
def test_clones_open_a_new_database_at_once(tmp_path, root):
    shared = tmp_path / "shared"
    shared.mkdir()
    for name in ("m.db.part", "m.db.part-journal"):
        (shared / name).write_bytes(b"left by a creation that was killed")
    clones = [tmp_path / f"clone{number}" for number in range(4)]
    for clone in clones:
        clone.mkdir()
    uri = f"sqlite:///{shared}/m.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN_A_RUN, uri, str(clone), clone.name[-1] * 64], stdout=-1, stderr=-1, text=True,
            cwd=clone,
        )
        for clone in clones
    ]  # fmt: skip
    results = [process.communicate(timeout=120) for process in processes]
    assert [err for _, err in results] == [""] * 4
    client = connect(uri)
    assert {run.info.run_id for run in runs(client)} == {out.strip() for out, _ in results}
    # Next to the database, where all of them may write; not in whichever clone was first.
    assert client.get_experiment("0").artifact_location == (shared / "mlartifacts").as_uri() + "/0"
    assert client.get_experiment_by_name("tinystories").artifact_location == (shared / "mlartifacts").as_uri()
    assert sorted(path.name for path in shared.iterdir()) == ["m.db", "m.db.lock"]
    assert not any(path for clone in clones for path in clone.iterdir())


def test_lock_failure_is_one_line(root, files):
    (root / "mlflow.db.lock").mkdir()
    with pytest.raises(UserError, match=r"^MLflow at sqlite:.*mlflow\.db\.lock.*run again") as failure:
        publish(load_params(), root)
    assert "\n" not in str(failure.value)
