"""One run in the store: its name, tags, artifacts and inputs."""

import ctypes
import getpass
import json
import os

import pytest

from tests.support.mlflow_runs import KEY, change_run_file, client_of, publish_in_a_process, start_logger
from tinystories.common import paths
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_run import error_summary


def test_run_is_renamed_to_the_experiment_that_publishes(root, files):
    half = start_logger(root, name="brave-newt")
    old = half.close("KILLED", timeout=60)
    change_run_file(run_id=old, name="brave-newt")
    client = client_of(root)
    for name, expected in ((None, "brave-newt"), ("requeued-owl", "requeued-owl"), (None, "requeued-owl")):
        assert publish(load_params(), root, name=name) == old
        run = client.get_run(old)
        assert (run.info.run_name, run.data.tags["dvc.experiment"]) == (expected, expected)


@pytest.mark.parametrize(("name", "expected"), [("requeued-owl", "requeued-owl"), (None, f"train-{KEY[:8]}")])
def test_resumed_training_has_the_name_of_the_command_that_resumes(root, files, name, expected):
    """DVC forgets an experiment that was stopped."""
    stopped = start_logger(root, name="brave-newt").close("KILLED", timeout=60)
    assert start_logger(root, run_id=stopped, name=name).close("FINISHED", timeout=60) == stopped
    change_run_file(run_id=stopped, name=name)
    client = client_of(root)
    for _ in range(2):
        run = client.get_run(stopped)
        assert (run.info.run_name, run.data.tags.get("dvc.experiment")) == (expected, name)
        publish(load_params(), root)


@pytest.mark.parametrize("has_name", [True, False])
def test_run_has_user_and_source(root, files, has_name, monkeypatch):
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setenv("LOGNAME", "lily")
    if not has_name:
        monkeypatch.setattr(getpass, "getuser", no_name)
    client = client_of(root)
    logged = start_logger(root, key="f" * 64).close("KILLED", timeout=60)
    for run_id in (publish(load_params(), root), logged):
        tags = client.get_run(run_id).data.tags
        assert tags["mlflow.user"] == ("lily" if has_name else "unknown")
        assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("stages/train.py", "LOCAL")
        assert str(root) not in str(tags) and len(tags["pipeline.writer"]) == 16


def as_an_ordinary_user() -> None:
    """Give up root's right to write what is read-only, for good, with the next program that is executed."""
    if os.geteuid() == 0 and ctypes.CDLL(None).prctl(24, 1) != 0:  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
        raise OSError("root's rights cannot be given up here")


@pytest.mark.slow
@pytest.mark.parametrize("linked", [False, True])
def test_log_artifacts_replaces_read_only_files(root, files, linked):
    """As DVC leaves its outputs with `cache.type hardlink,symlink`."""
    cache = files.parent / "cache"
    for number, path in enumerate(sorted((*paths.CHECKPOINT.iterdir(), *paths.SAMPLES.iterdir(), paths.PLOT))):
        path.chmod(0o444)
        if linked:
            cache.mkdir(exist_ok=True)
            path.rename(cache / str(number))
            path.symlink_to(cache / str(number))
    for report in ("# First\n", "# Second\n"):
        paths.REPORT.write_text(report)
        publish_in_a_process(root, preexec_fn=as_an_ordinary_user)
        stored = [file for file in (root / "mlartifacts").rglob("*") if file.is_file()]
        assert {file.stat().st_mode & 0o777 for file in stored} == {0o666 & ~umask()}
        # As an earlier version, or somebody, has left them. Models are never written again.
        for file in stored:
            if "models" not in file.relative_to(root).parts:
                file.chmod(0o444)
    assert (root / "mlartifacts").rglob("report.md").__next__().read_text() == "# Second\n"


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_log_inputs_cuts_a_long_list_of_files(root, files):
    import mlflow.data

    manifest = json.loads(paths.RAW_MANIFEST.read_text())
    books = [
        {"path": f"books/{number:04}_Geschichten für Kinder.txt", "bytes": 90, "stories": 1, "sha256": "c" * 64}
        for number in range(6000)
    ]
    manifest["detail"] = {"train": books, "held_out": 0.1}
    paths.RAW_MANIFEST.write_text(json.dumps(manifest))
    run_id = publish(load_params(), root)
    dataset = client_of(root).get_run(run_id).inputs.dataset_inputs[0].dataset
    assert 50_000 < len(dataset.source) <= 65_535
    *named, more = mlflow.data.get_source(dataset).to_dict()["tags"]["train"]
    assert named == books[: len(named)] and len(named) > 300
    assert more == "... (6,000 in all; data/raw/manifest.json has all)"


def test_error_summary_leaves_out_the_query():
    error = Exception("(sqlite3.OperationalError) database is locked\n[SQL: SELECT runs.run_uuid\nFROM runs]")
    assert error_summary(error) == "(sqlite3.OperationalError) database is locked"
