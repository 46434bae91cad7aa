"""A database that is locked, changed or on a full disk while a training logs to it.

The tests of full disks need the right to mount one, and are skipped without it.
"""

import shutil
import sqlite3

import pytest

from tests.support.mlflow_runs import (
    HISTORY,
    assert_one_warning,
    client_of,
    log_first_half,
    log_rows,
    log_second_half,
    publish_and_check,
    start_logger,
)
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_store import tracking_uri


@pytest.mark.parametrize("locked", ["from the start", "in the middle"])
def test_logger_never_waits_for_a_locked_database(root, files, key, locked, capsys):
    client = client_of(root)
    other = sqlite3.connect(root / "mlflow.db", isolation_level=None, timeout=60)
    if locked == "from the start":
        other.execute("BEGIN EXCLUSIVE")
    logger = start_logger(root, key=key)
    if locked == "in the middle":
        log_first_half(logger, client)
        other.execute("BEGIN EXCLUSIVE")
    log_rows(logger, HISTORY[:5])
    log_second_half(logger)
    assert other.in_transaction
    logger.close("FINISHED", timeout=0.1)
    assert_one_warning(capsys, "not done within 0.1 s")
    other.execute("ROLLBACK")
    other.close()
    logger.close("FINISHED", timeout=60)  # a training's process would end here, with less sent
    assert publish_and_check(client, root, key, None)


def test_publish_recreates_a_deleted_run(root, files, key, capsys):
    client = client_of(root)
    logger = start_logger(root, key=key)
    log_first_half(logger, client)
    deleted = logger.run_id
    assert deleted
    client.delete_run(deleted)
    log_second_half(logger)
    logger.close("FINISHED", timeout=60)
    assert_one_warning(capsys, "'active'")
    assert publish_and_check(client, root, key, deleted) != deleted
    assert client.get_run(deleted).info.lifecycle_stage == "deleted"


def test_full_disk_of_the_database(root, files, key, small_disk, fresh_database, monkeypatch, capsys):
    shutil.copy(fresh_database, small_disk.path / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", small_disk.path))
    client = client_of(small_disk.path)
    logger = start_logger(small_disk.path, key=key)
    log_first_half(logger, client)
    small_disk.fill()
    log_second_half(logger)
    logger.close("FINISHED", timeout=60)
    assert_one_warning(capsys, "database or disk is full")
    with pytest.raises(
        UserError, match=r"^MLflow at sqlite:.*\b(full|No space left)\b.*run again: dvc repro"
    ) as failure:
        publish(load_params(), small_disk.path)
    assert "\n" not in str(failure.value)
    assert not paths.RECEIPT.exists()
    small_disk.make_room()
    publish_and_check(client, small_disk.path, key, logger.run_id)


def test_full_disk_of_the_artifacts(root, files, key, small_disk):
    (root / "mlartifacts").symlink_to(small_disk.path)
    small_disk.fill()
    with pytest.raises(
        UserError, match=r"^MLflow at sqlite:.*No space left on device.*run again: dvc repro"
    ) as failure:
        publish(load_params(), root)
    assert "\n" not in str(failure.value)
    assert not paths.RECEIPT.exists()
    small_disk.make_room()
    run_id = publish_and_check(client_of(root), root, key, None)
    report = small_disk.path / run_id / "artifacts" / "report.md"
    assert report.read_bytes() == paths.REPORT.read_bytes()


def test_full_disk_of_a_new_database(root, files, key, small_disk, monkeypatch, capsys):
    """MLflow could not use one that was made by half."""
    small_disk.fill()
    logger = start_logger(small_disk.path, key=key, uri=tracking_uri("", small_disk.path))
    log_second_half(logger)
    assert logger.close("FINISHED", timeout=60) is None
    assert_one_warning(capsys, "full")
    assert not (small_disk.path / "mlflow.db").exists()
