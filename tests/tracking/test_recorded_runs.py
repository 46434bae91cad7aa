"""Runs read back from a real sqlite store, as the training's logger and `publish` wrote them."""

import sqlite3

import pytest

from tests.support.mlflow_runs import (
    EPOCHS,
    EVALUATION,
    HISTORY,
    client_of,
    log_first_half,
    log_second_half,
    start_logger,
)
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.common.recorded_run import Score
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.tracking.recorded_runs import read_runs

KEYS = {"wide": "ab" * 32, "deep": "cd" * 32}


def read(root, *names, last=10, experiment="tinystories"):
    return read_runs(tracking_uri("", root), experiment, names, last)


def log(root, name, finish=True):
    logger = start_logger(root, name=name, key=KEYS[name], params={"train.batch_size": "8"})
    log_first_half(logger, client_of(root))
    if finish:
        log_second_half(logger)
    logger.close("FINISHED" if finish else "KILLED", timeout=60)
    return logger.run_id


def test_read_runs_gives_what_was_logged(root, files):
    publish(load_params(), root)
    (run,), others = read(root)
    assert others == 0 and run.status == "FINISHED" and run.validation == "b" * 16
    assert run.losses == [(row.tokens, row.loss) for row in HISTORY]
    assert run.scores == [
        Score(EPOCHS[0].tokens, EPOCHS[0].valid_loss, EPOCHS[0].valid_bits_per_byte),
        Score(EPOCHS[1].tokens, EVALUATION.valid_loss, EVALUATION.valid_bits_per_byte),  # the stage evaluate's
    ]
    assert run.params["train.batch_size"] == "32" and run.environment["torch"] == "2.13.0"


def test_read_runs_finds_them_by_any_name(root, files):
    publish(load_params(), root)
    wide, deep = log(root, "wide"), log(root, "deep", finish=False)
    assert [run.name for run in read(root)[0]][:2] == ["deep", "wide"] and len(read(root)[0]) == 3
    assert [run.name for run in read(root, last=2)[0]] == ["deep", "wide"] and read(root, last=2)[1] == 1
    for names in (["wide", "deep"], [wide, deep[:9]], ["abab", KEYS["deep"]], ["wide", "wide", "deep"]):
        runs, others = read(root, *names)
        assert ([run.id for run in runs], others) == ([wide, deep], 0)
    half = runs[1]
    assert (half.status, half.validation, half.scores) == ("KILLED", None, [])
    assert half.losses == [(row.tokens, row.loss) for row in HISTORY[:5]]
    client = client_of(root)
    client.set_tag(deep, "pipeline.superseded_by", wide)
    assert deep not in [run.id for run in read(root)[0]] and read(root, "deep")[0][0].id == deep
    with pytest.raises(UserError, match=r"^wido is no run's name, id or key; near: wide$"):
        read(root, "wido")
    with pytest.raises(UserError, match=r"^zzzzzzzz is no run's name, id or key; there are: "):
        read(root, "zzzzzzzz")
    client.set_tag(deep, "pipeline.key", "abad" * 16)
    client.set_tag(wide, "pipeline.key", "abad" * 15 + "beef")
    with pytest.raises(UserError, match=r"^abad begins the ids or keys of several trainings: "):
        read(root, "abad")


def spoil(root, how):
    path = root / "mlflow.db"
    if how == "missing":
        path.unlink()
    elif how == "no database":
        path.write_text("not a database at all, and long enough to have a header " * 20)
    elif how == "another program's":
        path.unlink()
        with sqlite3.connect(path) as database:
            database.execute("CREATE TABLE recipes (name TEXT)")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("empty", "has no run of the experiment tinystories"),
        ("missing", "no such file; nothing has been recorded there"),
        ("no database", "file is not a database"),
        ("another program's", "a database, but not MLflow's"),
    ],
)
def test_read_runs_refuses_in_one_line(root, how, words):
    spoil(root, how)
    with pytest.raises(UserError, match=words) as error:
        read(root)
    assert str(error.value).startswith("MLflow at sqlite:") and "\n" not in str(error.value)
    assert (root / "mlflow.db").exists() == (how != "missing"), "nothing is made"


def test_read_runs_does_not_wait_long_for_a_lock(root, monkeypatch):
    from tinystories.tracking import read_store

    monkeypatch.setattr(read_store, "_CALL_TIMEOUT", 0.1)
    with sqlite3.connect(root / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UserError, match=r"database is locked; another process holds it"):
            read(root)


def test_read_runs_from_a_server_of_no_use(root, faulty_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", faulty_server)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with pytest.raises(UserError, match=r"^MLflow at http://127\.0\.0\.1:\d+") as error:
        read(root)
    assert not any(secret in str(error.value) for secret in ("hunter2", "t0ken", "somebody"))
