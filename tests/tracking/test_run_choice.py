"""One MLflow run is one training, whole, under the parameters that made its figures."""

import getpass
import json
import threading

import pytest

from tests.support.mlflow_record import (
    EPOCHS,
    EVALUATION,
    HISTORY,
    KEY,
    assert_complete_and_single,
    change_run_file,
    client_of,
    points,
    runs,
    stream,
    write_csv,
)
from tinystories.common import paths
from tinystories.common.params_file import load_params
from tinystories.publishing import publish as publish_module
from tinystories.publishing.publish import publish
from tinystories.tracking import run_choice
from tinystories.tracking.metrics import flat_params, history_metrics
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.tracking.run_choice import same_params

OTHER_BITS = [{**row, "loss": row["loss"] + 1e-6} for row in HISTORY]
BF16 = {**EVALUATION, "valid_loss": 2.26}


def change_params(old: str, new: str) -> None:
    text = paths.PARAMS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    paths.PARAMS.write_text(text.replace(old, new), encoding="utf-8")


def evaluate_in_bf16() -> None:
    change_params("precision: fp32  ", "precision: bf16  ")
    paths.EVALUATION.write_text(json.dumps(BF16))


def content(client, run_id):
    """All that a run says."""
    data = client.get_run(run_id).data
    return {name: points(client, run_id, name) for name in data.metrics}, data.params, data.tags


@pytest.mark.parametrize(
    ("path", "rows"),
    [
        (paths.HISTORY, OTHER_BITS[:1] + HISTORY[1:]),
        (paths.HISTORY, [{**row, "gradient_norm": 1.6} for row in HISTORY]),
        (paths.EPOCHS, [*EPOCHS[:-1], {**EPOCHS[-1], "valid_loss": 2.0}]),
        (paths.EVALUATION, {**EVALUATION, "valid_loss": 2.0}),
    ],
    ids=["the first loss", "gradient norms", "the last epoch", "the evaluation"],
)
def test_a_training_that_ends_with_other_bits_supersedes_and_never_mixes(root, files, path, rows):
    old = publish(load_params(), root)
    client = client_of(root)
    before = content(client, old)
    change_run_file(run_id=old)
    if isinstance(rows, list):
        write_csv(path, rows)
    else:
        path.write_text(json.dumps(rows))
    new = publish(load_params(), root)

    assert new != old and publish(load_params(), root) == new and len(runs(client)) == 2
    metrics, params, tags = content(client, old)
    assert tags.pop("pipeline.superseded_by") == new
    assert (metrics, params, tags) == before
    metrics, params, tags = content(client, new)
    assert tags["pipeline.supersedes"] == old
    if path == paths.HISTORY:
        assert metrics["train/loss"] == [(row["step"], row["loss"]) for row in rows]
    assert {name: len(values) for name, values in metrics.items()} == {
        name: len(values) for name, values in before[0].items()
    }


def test_the_same_training_at_another_speed_is_the_same_run(root, files):
    first = publish(load_params(), root)
    write_csv(paths.HISTORY, [{**row, "tokens_per_second": 1.0} for row in HISTORY])
    assert publish(load_params(), root) == first
    assert_complete_and_single(client_of(root), first)


@pytest.mark.parametrize("how", ["killed", "finished"])
def test_a_training_whose_state_was_lost_goes_another_way(root, files, how, capsys):
    """It does not add to what was streamed before it, neither while it runs nor at its end."""
    lost = stream(root)
    for row in OTHER_BITS[:6]:
        lost.log(row["step"], history_metrics(row))
    old = lost.close("KILLED" if how == "killed" else "FINISHED", timeout=60)
    live = stream(root)
    for row in HISTORY[:8]:
        live.log(row["step"], history_metrics(row))
    streamed = live.close("FINISHED", timeout=60)
    assert (streamed == old) == (how == "finished")  # a finished run is left to publish
    change_run_file(run_id=streamed)
    new = publish(load_params(), root)

    client = client_of(root)
    assert {run.info.run_id for run in runs(client)} == {old, new}
    assert points(client, old, "train/loss") == [(row["step"], row["loss"]) for row in OTHER_BITS[:6]]
    assert (client.get_run(old).info.status == "KILLED") == (how == "killed")
    assert client.get_run(old).data.tags["pipeline.superseded_by"] == new
    assert client.get_run(new).data.tags["pipeline.supersedes"] == old
    assert_complete_and_single(client, new)
    assert "warning" not in capsys.readouterr().out


def test_two_points_at_one_step_are_no_record(root, files):
    """As two streams into one run could leave them."""
    old = publish(load_params(), root)
    client = client_of(root)
    client.log_metric(old, "train/loss", HISTORY[3]["loss"], timestamp=1, step=HISTORY[3]["step"])
    new = publish(load_params(), root)
    assert new != old
    assert_complete_and_single(client, new)


def test_an_experiment_that_only_evaluates_otherwise_has_a_record_of_its_own(root, files):
    change_run_file(name="len4")
    first = publish(load_params(), root, name="len4")
    change_run_file(run_id=first)
    evaluate_in_bf16()
    second = publish(load_params(), root, name="evalbf")

    client = client_of(root)
    assert second != first
    for run_id, name, precision, loss in ((first, "len4", "fp32", 2.25), (second, "evalbf", "bf16", 2.26)):
        run = client.get_run(run_id)
        assert (run.info.run_name, run.data.tags["dvc.experiment"]) == (name, name)
        assert run.data.params["evaluate.precision"] == precision
        assert points(client, run_id, "final/valid_loss") == [(100, loss)]
        assert points(client, run_id, "train/loss") == [(row["step"], row["loss"]) for row in HISTORY]
        assert "pipeline.superseded_by" not in run.data.tags
    assert client.get_run(second).data.tags["pipeline.training_run"] == first

    assert publish(load_params(), root) == second  # and in the other's place again
    assert client.get_run(second).info.run_name == "evalbf"
    change_params("precision: bf16  ", "precision: fp32  ")
    paths.EVALUATION.write_text(json.dumps(EVALUATION))
    assert publish(load_params(), root) == first
    assert_complete_and_single(client, first)
    assert len(runs(client)) == 2


def test_without_an_experiment_it_does_not_take_the_name_of_the_one_that_trained(root, files):
    change_run_file(name="len4", run_id=publish(load_params(), root, name="len4"))
    evaluate_in_bf16()
    assert client_of(root).get_run(publish(load_params(), root)).info.run_name == f"train-{KEY[:8]}"


def test_what_was_stopped_and_goes_on_under_other_parameters_is_one_run(root, files):
    """`train.save_every` decides no result, so the training goes on; but a run's parameters cannot be changed."""
    half = stream(root, params={"train.save_every": "30"})
    for row in HISTORY[:6]:
        half.log(row["step"], history_metrics(row))
    old = half.close("KILLED", timeout=60)
    change_params("save_every: 30 ", "save_every: 90 ")
    live = stream(root, run_id=old, params=flat_params(load_params()))
    for row in HISTORY[6:]:
        live.log(row["step"], history_metrics(row))
    new = live.close("FINISHED", timeout=60)
    change_run_file(run_id=new)
    assert publish(load_params(), root) == new != old

    client = client_of(root)
    assert_complete_and_single(client, new)
    assert client.get_run(old).data.tags["pipeline.superseded_by"] == new
    assert client.get_run(old).info.status == "KILLED"


@pytest.mark.parametrize(
    ("there", "here", "same"),
    [
        ({"a": "30.0"}, {"a": "30"}, True),
        ({"a": "False"}, {"a": "false"}, True),
        ({"a": "30.0"}, {"a": "30.1"}, False),
        ({"a": "v2"}, {"a": "V2"}, False),
        ({"a": "1", "old": "2"}, {"a": "1", "new": "3"}, True),
        ({}, {"a": "1"}, True),
        ({"a": ""}, {"a": "x"}, False),
    ],
)
def test_what_are_the_same_parameters(there, here, same):
    assert same_params(there, here) == same


def test_figures_are_written_as_dvc_has_them(root, files):
    change_params("cooldown: 0.5 ", "cooldown: 0.50 ")
    params = client_of(root).get_run(publish(load_params(), root)).data.params
    shown = {"train.save_every", "train.weight_decay", "train.learning_rate", "train.deterministic", "train.cooldown"}
    assert {name: params[name] for name in shown} == {
        "train.save_every": "30", "train.weight_decay": "0.0", "train.learning_rate": "0.007",
        "train.deterministic": "false", "train.cooldown": "0.5",
    }  # fmt: skip


def test_the_name_follows_the_experiment_that_publishes(root, files):
    half = stream(root, name="brave-newt")
    old = half.close("KILLED", timeout=60)
    change_run_file(run_id=old, name="brave-newt")
    client = client_of(root)
    for name, expected in ((None, "brave-newt"), ("requeued-owl", "requeued-owl"), (None, "requeued-owl")):
        assert publish(load_params(), root, name=name) == old
        run = client.get_run(old)
        assert (run.info.run_name, run.data.tags["dvc.experiment"]) == (expected, expected)


@pytest.mark.parametrize("has_name", [True, False])
def test_a_run_says_whose_it_is_and_what_made_it(root, files, has_name, monkeypatch):
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setenv("LOGNAME", "lily")
    if not has_name:
        monkeypatch.setattr(getpass, "getuser", no_name)
    client = client_of(root)
    streamed = stream(root, key="f" * 64).close("KILLED", timeout=60)
    for run_id in (publish(load_params(), root), streamed):
        tags = client.get_run(run_id).data.tags
        assert tags["mlflow.user"] == ("lily" if has_name else "unknown")
        assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("stages/train.py", "LOCAL")
        assert str(root) not in str(tags) and len(tags["pipeline.writer"]) == 16


def elsewhere(root, name):
    """Another clone, whose record goes into the same store."""
    clone = root.parent / name
    clone.mkdir()
    return clone


def test_what_trains_elsewhere_at_this_moment_is_left_alone(root, files, monkeypatch, capsys):
    uri = tracking_uri("", root)
    client, clone = client_of(root), elsewhere(root, "clone")
    first = stream(root)
    first.log(10, history_metrics(HISTORY[0]))
    while not first.run_id or not points(client, first.run_id, "train/gradient_norm"):
        assert first._thread.is_alive()
    second = stream(clone, uri=uri)
    second.log(10, history_metrics(HISTORY[0]))
    assert second.close("FINISHED", timeout=60) is None
    assert "streams there from elsewhere" in capsys.readouterr().out
    assert len(runs(client)) == 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    whole = publish(load_params(), clone)  # it ends first, and does not write into the run of the other
    assert whole != first.run_id
    for row in HISTORY[1:]:
        first.log(row["step"], history_metrics(row))
    change_run_file(run_id=first.close("FINISHED", timeout=60))
    last = publish(load_params(), root)
    assert [run.info.run_id for run in runs(client)] == [last]
    assert_complete_and_single(client, last)
    change_run_file(run_id=None)
    assert publish(load_params(), clone) == last


def test_a_killed_process_of_this_repository_is_no_other(root, files):
    killed = stream(root)  # it never ends, as after SIGKILL before the first save
    client = client_of(root)
    killed.log(10, history_metrics(HISTORY[0]))
    while not killed.run_id or not points(client, killed.run_id, "train/gradient_norm"):
        assert killed._thread.is_alive()
    assert stream(root).close("FINISHED", timeout=60) == killed.run_id


def test_of_two_that_are_made_at_the_same_moment_the_older_stands(root, files, monkeypatch, capsys):
    both = threading.Barrier(2)
    create = run_choice.TrainingRuns.create

    def create_together(self, *known):
        both.wait(60)  # neither has found a run
        run = create(self, *known)
        both.wait(60)
        return run

    monkeypatch.setattr(run_choice.TrainingRuns, "create", create_together)
    uri, clone = tracking_uri("", root), elsewhere(root, "clone")
    lives = [stream(place, uri=uri) for place in (root, clone)]
    found = [live.close("FINISHED", timeout=60) for live in lives]
    client = client_of(root)
    (run,) = runs(client)
    assert sorted(found, key=bool) == [None, run.info.run_id]
    assert "warning" not in capsys.readouterr().out


def test_two_that_publish_at_the_same_moment_end_with_one(root, files, monkeypatch):
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
