"""Readers of what `train` and `evaluate` write, fuzzed: the right result, or one line that refuses the file."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.corruption import corrupted, corrupted_json
from tests.support.fuzz import fuzz, reading, refused
from tests.support.report_files import write_run
from tests.support.repository import PARAMS
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.params_file import load_params
from tinystories.common.reading import read_csv, read_json
from tinystories.model.checkpoint import load_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.publishing.run_data import read_run_data
from tinystories.reporting.chart import make_chart
from tinystories.reporting.figure import draw_run
from tinystories.reporting.html_report import write_html_report
from tinystories.reporting.report import loss_table, write_report
from tinystories.training.resume import TENSORS, TRAINER_STATE, ResumeCheckpoint, TrainerState

COMMITTED = PARAMS.read_bytes()

pytestmark = pytest.mark.usefixtures("fuzz_report")


# Checkpoint and state


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model()


@pytest.fixture(scope="module")
def whole_checkpoint(model: GPT, tokenizer_file: Path, directory: Path) -> Path:
    save_checkpoint(model, tokenizer_file, directory / "whole")
    return directory / "whole"


def check_checkpoint(directory: Path, whole: Path, name: str, data: bytes, model: GPT) -> None:
    shutil.copytree(whole, directory / "checkpoint", dirs_exist_ok=True)
    (directory / "checkpoint" / name).write_bytes(data)
    with reading(name):
        loaded = load_checkpoint(directory / "checkpoint")
        assert loaded.config == model.config
        assert same(loaded.state_dict(), model.state_dict())


@fuzz()
@given(data=st.data())
def test_a_damaged_config(directory, whole_checkpoint, model, data):
    damage = data.draw(corrupted_json((whole_checkpoint / "config.json").read_bytes()))
    check_checkpoint(directory, whole_checkpoint, "config.json", damage, model)


@fuzz()
@given(data=st.data())
def test_damaged_weights(directory, whole_checkpoint, model, data):
    whole = (whole_checkpoint / "model.safetensors").read_bytes()
    first = 8 + int.from_bytes(whole[:8], "little")
    header, weights = whole[:first], whole[first:]
    damage = data.draw(corrupted(whole) | corrupted(header).map(lambda other: other + weights))
    check_checkpoint(directory, whole_checkpoint, "model.safetensors", damage, model)


@fuzz()
@given(data=st.data(), name=st.sampled_from([TRAINER_STATE, TENSORS]))
def test_a_damaged_state(directory, data, name):
    saved, tensors = ResumeCheckpoint(directory / "state"), {"a": torch.arange(12.0).view(3, 4), "b": torch.tensor(2)}
    row = HistoryRow(
        step=20, tokens=80, loss=3.25, learning_rate=1e-5, gradient_norm=0.5, tokens_per_second=40.0, seconds=2.0
    )
    state = TrainerState(started="then", step=20, seconds=1.5, history=[row])
    saved.save(tensors, state)
    path = next((directory / "state").glob("step-*")) / name
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted_json(whole) if name == TRAINER_STATE else corrupted(whole)))
    with reading(f"state, {name}"):
        if (loaded := saved.load(tensors)) is None:
            refused[f"state, {name}"] += 1
        else:
            assert same(loaded[0], tensors)
            assert loaded[1] == state


# What `plot` and `publish` read


@pytest.fixture
def run(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that the stages before have written, in the current directory."""
    shutil.rmtree(directory / "run", ignore_errors=True)
    (directory / "run").mkdir()
    monkeypatch.chdir(directory / "run")
    write_run(epochs=2)
    paths.PARAMS.write_bytes(COMMITTED)
    for path in (
        paths.REPORT, paths.REPORT_HTML, paths.MODEL_CARD, paths.PLOT, paths.CHECKPOINT / "model.safetensors",
        paths.epoch_checkpoint(1) / "model.safetensors",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("some")
    return directory / "run"


JSON_FILES = (
    paths.RAW_MANIFEST, paths.TOKENS_META, paths.CORPUS_FIGURES, paths.TRAIN_METRICS, paths.EVALUATION, paths.RUN,
)  # fmt: skip


@pytest.mark.parametrize("path", JSON_FILES, ids=str)
@fuzz(0.5)
@given(data=st.data())
def test_corrupted_json_of_a_run(run, path, data):
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted_json(whole)))
    for what, read in (
        ("report", lambda: write_report(load_params())),
        ("HTML", lambda: write_html_report(load_params())),
        ("run data", lambda: read_run_data("best")),
    ):
        with reading(f"{path}, {what}"):
            read()
    path.write_bytes(whole)


@fuzz()
@given(data=st.data())
def test_any_json(directory, data):
    whole = b'{"a": [1, 2.5, null, true, {"b": "c\\u00e9"}], "d": {}}'
    (directory / "a.json").write_bytes(data.draw(corrupted_json(whole) | st.binary(max_size=50)))
    with reading("any JSON"):
        assert isinstance(read_json(directory / "a.json"), dict)


@pytest.mark.parametrize("kind", [HistoryRow, EpochRow])
@fuzz(0.5)
@given(data=st.data())
def test_damaged_tables(run, kind, data):
    path = kind.PATH
    whole = path.read_bytes()
    path.write_bytes(data.draw(corrupted(whole)))
    with reading(f"{path}, run data"):
        read_run_data("last")
    with reading(f"{path}, table"):
        table = kind.read_table()
        assert len(table) == len(read_csv(path, "train"))
        if kind is EpochRow:
            loss_table(table)
    path.write_bytes(whole)


@fuzz(0.5)
@given(data=st.data(), name=st.sampled_from(["epoch_1.md", "final.md"]))
def test_damaged_samples(run, data, name):
    whole = (paths.SAMPLES / name).read_bytes()
    (paths.SAMPLES / name).write_bytes(data.draw(corrupted(whole)))
    with reading("samples"):
        write_report(load_params())
        assert paths.REPORT.read_text().startswith("# GPT, ")
    with reading("samples, HTML"):
        write_html_report(load_params())
        assert paths.REPORT_HTML.read_text().endswith("</html>\n")
    (paths.SAMPLES / name).write_bytes(whole)


NUMBERS = st.sampled_from([0.0, 5e-324, 1e-300, 1e-12, 0.5, 1.0, 3.0, 700.0, 710.0, 1e3, 1e5, 1e9, 1e15])


@fuzz(0.2)
@given(data=st.data())
def test_a_plot_of_any_numbers(run, data):
    whole = EpochRow.read_table()
    for path in (paths.HISTORY, paths.EPOCHS):
        header, *rows = [line.split(",") for line in path.read_text().splitlines()]
        for _ in range(data.draw(st.integers(0, 4))):
            row, column = data.draw(st.sampled_from(rows)), data.draw(st.integers(0, len(header) - 1))
            row[column] = repr(data.draw(NUMBERS))
        path.write_text("\n".join(map(",".join, [header, *rows])) + "\n")
    with reading("plot"):
        figure = draw_run(HistoryRow.read_table(), EpochRow.read_table(), "title")
        figure.set_dpi(20)
        figure.draw_without_rendering()
        assert "nan" not in repr(make_chart(HistoryRow.read_table(), EpochRow.read_table(), 0.01))
    EpochRow.write_table(whole)
