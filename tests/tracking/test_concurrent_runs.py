"""The same training in two repositories, or twice in one, with one MLflow store."""

import threading

from tests.support.mlflow_runs import (
    HISTORY,
    assert_complete_and_single,
    change_run_file,
    client_of,
    log_rows,
    runs,
    start_logger,
    wait_for_rows,
)
from tinystories.common.params_file import load_params
from tinystories.publishing import publish as publish_module
from tinystories.publishing.publish import publish
from tinystories.tracking import run_choice
from tinystories.tracking.mlflow_store import tracking_uri


def elsewhere(root, name):
    """Another clone, which logs to the same store."""
    clone = root.parent / name
    clone.mkdir()
    return clone


def test_logger_leaves_a_run_of_another_repository(root, files, monkeypatch, capsys):
    uri = tracking_uri("", root)
    client, clone = client_of(root), elsewhere(root, "clone")
    first = start_logger(root)
    log_rows(first, HISTORY[:1])
    wait_for_rows(first, client, 1)
    second = start_logger(clone, uri=uri)
    log_rows(second, HISTORY[:1])
    assert second.close("FINISHED", timeout=60) is None
    assert "logs there from elsewhere" in capsys.readouterr().out
    assert len(runs(client)) == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    whole = publish(load_params(), clone)  # it ends first, and does not write into the run of the other
    assert whole != first.run_id
    log_rows(first, HISTORY[1:])
    change_run_file(run_id=first.close("FINISHED", timeout=60))
    last = publish(load_params(), root)
    assert [run.info.run_id for run in runs(client)] == [last]
    assert_complete_and_single(client, last)
    change_run_file(run_id=None)
    assert publish(load_params(), clone) == last


def test_logger_takes_over_from_a_killed_process(root, files):
    killed = start_logger(root)  # it never ends, as after SIGKILL before the first save
    client = client_of(root)
    log_rows(killed, HISTORY[:1])
    wait_for_rows(killed, client, 1)
    assert start_logger(root).close("FINISHED", timeout=60) == killed.run_id


def test_older_of_two_new_runs_stays(root, files, monkeypatch, capsys):
    both = threading.Barrier(2)
    create = run_choice.TrainingRuns.create

    def create_together(self, *known):
        both.wait(60)  # neither has found a run
        run = create(self, *known)
        both.wait(60)
        return run

    monkeypatch.setattr(run_choice.TrainingRuns, "create", create_together)
    uri, clone = tracking_uri("", root), elsewhere(root, "clone")
    lives = [start_logger(place, uri=uri) for place in (root, clone)]
    found = [logger.close("FINISHED", timeout=60) for logger in lives]
    client = client_of(root)
    (run,) = runs(client)
    assert sorted(found, key=bool) == [None, run.info.run_id]
    assert "warning" not in capsys.readouterr().out


def test_publish_twice_at_once_leaves_one_run(root, files, monkeypatch):
    """The second begins when the first has made its run, and ends before it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri("", root))
    clone, send_all = elsewhere(root, "clone"), publish_module._send_all
    published = []

    def send_all_after_the_other(*known):
        monkeypatch.setattr(publish_module, "_send_all", send_all)
        published.append(publish(load_params(), clone))
        send_all(*known)

    monkeypatch.setattr(publish_module, "_send_all", send_all_after_the_other)
    published.append(publish(load_params(), root))
    client = client_of(root)
    (run,) = runs(client)
    assert published[1] == run.info.run_id
    assert run.info.status == "FINISHED"
    assert_complete_and_single(client, run.info.run_id)
