"""One MLflow run is one training, whole, under the parameters that made its figures."""

import pytest

from tests.support.mlflow_runs import (
    EPOCHS,
    EVALUATION,
    HISTORY,
    KEY,
    assert_complete_and_single,
    change_params,
    change_run_file,
    client_of,
    log_rows,
    losses,
    points,
    runs,
    start_logger,
)
from tinystories.common.artifacts import EpochRow, Evaluation, HistoryRow
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.metrics import flat_params
from tinystories.tracking.run_choice import same_params

OTHER_BITS = [row.model_copy(update={"loss": row.loss + 1e-6}) for row in HISTORY]

BF16 = EVALUATION.model_copy(update={"valid_loss": 2.26})


def evaluate_in_bf16() -> None:
    change_params("precision: fp32  ", "precision: bf16  ")
    BF16.write()


def run_content(client, run_id):
    """All that a run says."""
    data = client.get_run(run_id).data
    return {name: points(client, run_id, name) for name in data.metrics}, data.params, data.tags


@pytest.mark.parametrize(
    ("write", "content"),
    [
        (HistoryRow.write_table, OTHER_BITS[:1] + HISTORY[1:]),
        (HistoryRow.write_table, [row.model_copy(update={"gradient_norm": 1.6}) for row in HISTORY]),
        (EpochRow.write_table, [*EPOCHS[:-1], EPOCHS[-1].model_copy(update={"valid_loss": 2.0})]),
        (Evaluation.write, EVALUATION.model_copy(update={"valid_loss": 2.0})),
    ],
    ids=["the first loss", "gradient norms", "the last epoch", "the evaluation"],
)
def test_publish_supersedes_a_run_of_other_bits(root, files, write, content):
    old = publish(load_params(), root)
    client = client_of(root)
    before = run_content(client, old)
    change_run_file(run_id=old)
    write(content)
    new = publish(load_params(), root)

    assert new != old and publish(load_params(), root) == new and len(runs(client)) == 2
    metrics, params, tags = run_content(client, old)
    assert tags.pop("pipeline.superseded_by") == new
    assert (metrics, params, tags) == before
    metrics, params, tags = run_content(client, new)
    assert tags["pipeline.supersedes"] == old
    if write == HistoryRow.write_table:
        assert metrics["train/loss"] == losses(content)
    assert {name: len(values) for name, values in metrics.items()} == {
        name: len(values) for name, values in before[0].items()
    }


def test_publish_ignores_the_speed(root, files):
    first = publish(load_params(), root)
    HistoryRow.write_table([row.model_copy(update={"tokens_per_second": 1.0}) for row in HISTORY])
    assert publish(load_params(), root) == first
    assert_complete_and_single(client_of(root), first)


@pytest.mark.parametrize("how", ["killed", "finished"])
def test_logger_supersedes_a_run_of_other_bits(root, files, how, capsys):
    """It does not add to what was logged before it, neither while it runs nor at its end."""
    lost = start_logger(root)
    log_rows(lost, OTHER_BITS[:6])
    old = lost.close("KILLED" if how == "killed" else "FINISHED", timeout=60)
    logger = start_logger(root)
    log_rows(logger, HISTORY[:8])
    logged = logger.close("FINISHED", timeout=60)
    assert (logged == old) == (how == "finished")  # a finished run is left to publish
    change_run_file(run_id=logged)
    new = publish(load_params(), root)

    client = client_of(root)
    assert {run.info.run_id for run in runs(client)} == {old, new}
    assert points(client, old, "train/loss") == losses(OTHER_BITS[:6])
    assert (client.get_run(old).info.status == "KILLED") == (how == "killed")
    assert client.get_run(old).data.tags["pipeline.superseded_by"] == new
    assert client.get_run(new).data.tags["pipeline.supersedes"] == old
    assert_complete_and_single(client, new)
    assert "warning" not in capsys.readouterr().out


def test_publish_supersedes_a_run_with_two_points_at_one_step(root, files):
    """As two loggers could leave them in one run."""
    old = publish(load_params(), root)
    client = client_of(root)
    client.log_metric(old, "train/loss", HISTORY[3].loss, timestamp=1, step=HISTORY[3].step)
    new = publish(load_params(), root)
    assert new != old
    assert_complete_and_single(client, new)


def test_publish_creates_a_run_for_another_evaluation(root, files):
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
        assert points(client, run_id, "train/loss") == losses(HISTORY)
        assert "pipeline.superseded_by" not in run.data.tags
    assert client.get_run(second).data.tags["pipeline.training_run"] == first

    assert publish(load_params(), root) == second  # and in the other's place again
    assert client.get_run(second).info.run_name == "evalbf"
    change_params("precision: bf16  ", "precision: fp32  ")
    EVALUATION.write()
    assert publish(load_params(), root) == first
    assert_complete_and_single(client, first)
    assert len(runs(client)) == 2


def test_publish_leaves_the_name_to_the_experiment_that_trained(root, files):
    change_run_file(name="len4", run_id=publish(load_params(), root, name="len4"))
    evaluate_in_bf16()
    assert client_of(root).get_run(publish(load_params(), root)).info.run_name == f"train-{KEY[:8]}"


def test_logger_supersedes_a_stopped_run_of_other_params(root, files):
    """`train.save_every` decides no result, so the training goes on; but a run's parameters cannot be changed."""
    half = start_logger(root, params={"train.save_every": "30"})
    log_rows(half, HISTORY[:6])
    old = half.close("KILLED", timeout=60)
    change_params("save_every: 30 ", "save_every: 90 ")
    logger = start_logger(root, run_id=old, params=flat_params(load_params()))
    log_rows(logger, HISTORY[6:])
    new = logger.close("FINISHED", timeout=60)
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
def test_same_params_compares_values(there, here, same):
    assert same_params(there, here) == same
