"""A missing or damaged file is named in one line, with its stage, before anything is written."""

import json
import re

import pytest

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.reporting.html_report import write_html_report
from tinystories.reporting.report import write_report

INPUTS = (
    (paths.EPOCHS, "train"),
    (paths.SAMPLES / "epoch_2.md", "evaluate"),
    (paths.RUN, "stage that writes it"),
    (paths.TRAIN_METRICS, "stage that writes it"),
    (paths.EVALUATION, "stage that writes it"),
    (paths.STORIES, "stage that writes it"),
    (paths.RAW_MANIFEST, "stage that writes it"),
    (paths.TOKENS_META, "stage that writes it"),
    (paths.CORPUS_FIGURES, "stage that writes it"),
)


@pytest.mark.parametrize(
    ("path", "stage", "write"),
    [
        *((*each, write) for each in INPUTS for write in (write_report, write_html_report)),
        (paths.HISTORY, "train", write_html_report),
        (paths.FINAL_SAMPLES, "evaluate", write_report),
    ],
)
@pytest.mark.parametrize("damage", ["missing", "empty", "bytes"])
def test_reports_name_a_damaged_file(run, params, path, stage, write, damage):
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"\xff\xfe\x00")
    with pytest.raises(UserError) as raised:
        write(params)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert stage in message
    assert "\n" not in message
    assert not paths.REPORT.exists() and not paths.REPORT_HTML.exists()


@pytest.mark.parametrize(
    ("path", "key", "value", "stage"),
    [
        (paths.RUN, "environment", {}, "train"),
        (paths.RUN, "started", "yesterday", "train"),
        (paths.EVALUATION, "valid_loss", "1.2", "evaluate"),
        (paths.EVALUATION, "valid_ppl", None, "evaluate"),
        (paths.TRAIN_METRICS, "tokens", "x" * 10_000, "train"),
        (paths.RUN, "key", ["a"] * 10_000, "train"),
        (paths.RUN, "started", "\x1b[31m", "train"),
        (paths.TRAIN_METRICS, "steps", True, "train"),
        (paths.TOKENS_META, "valid", None, "tokenize_to_memmap"),
        (paths.RAW_MANIFEST, "detail", [], "download"),
    ],
)
def test_write_report_names_a_wrong_value(run, params, path, key, value, stage):
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {key}.*{stage}") as raised:
        write_report(params)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" * 400])
def test_write_report_refuses_no_number(run, params, value):
    path = paths.EVALUATION
    path.write_text(path.read_text().replace("4999", value))
    with pytest.raises(UserError, match=r"evaluate.json: not readable as JSON .*(no finite number|more than 64 bits)"):
        write_report(params)
