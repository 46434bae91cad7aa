"""Files of the stages that are read for MLflow, or refused before anything is sent."""

import pytest

from tests.support.mlflow_runs import (
    change_run_file,
    client_of,
)
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.publishing.run_data import read_run_data


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        (paths.HISTORY, "step,loss\n1,2\n", "history.csv, row 1: tokens is missing"),
        (paths.EPOCHS, None, "epochs.csv: no such file"),
        (paths.EPOCHS, "", "epochs.csv: no row below the header"),
        (paths.EVALUATION, "{}", "evaluate.json: valid_loss is missing"),
        (paths.STORIES, '{"real": 1}', "stories.json: real is 1, expected an object"),
        (paths.TRAIN_METRICS, "[]", "train.json: found a JSON list, expected an object"),
        (paths.RUN, '{"run_id": null}', "run.json: key is missing"),
        (paths.RAW_MANIFEST, '{"source": 1}', "manifest.json: source is 1, expected text"),
        (paths.REPORT, b"\xff", "report.md: not UTF-8 at byte 0"),
        (paths.PLOT, None, "plot.png: no such file"),
    ],
)
def test_damaged_file_is_refused_before_anything_is_sent(root, files, path, content, message):
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message):
        publish(load_params(), root)
    assert client_of(root).get_experiment_by_name("tinystories") is None
    assert not paths.RECEIPT.exists()


def test_clock_set_back_ends_no_run_before_its_start(root, files):
    change_run_file(ended="2026-11-02T09:00:00+00:00")
    run = client_of(root).get_run(publish(load_params(), root))
    assert run.info.start_time == run.info.end_time
    points = client_of(root).get_metric_history(run.info.run_id, "train/loss")
    assert {point.timestamp for point in points} == {run.info.start_time}

    change_run_file(run_id=run.info.run_id, started="2026-11-01T09:00:00+00:00", ended="2026-11-01T10:00:00+00:00")
    publish(load_params(), root)
    run = client_of(root).get_run(run.info.run_id)
    assert run.info.start_time <= run.info.end_time


def test_read_run_data_accepts_more_columns(files):
    """Later versions may add columns to the tables."""
    data = read_run_data("last")
    for path in (paths.HISTORY, paths.EPOCHS):
        header, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{header},more", *(f"{row},x" for row in rows)]) + "\n")
    assert read_run_data("last") == data
