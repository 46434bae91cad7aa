"""A training that has ended, of which DVC knows nothing: nothing is trained twice. With a real DVC: test_torture.py."""

import json
from pathlib import Path

import pytest

from tinystories.common import paths
from tinystories.common.files import checksum
from tinystories.training import retention
from tinystories.training import trainer as training
from tinystories.training.resume import TRAINER_STATE, TENSORS
from tinystories.training.retention import main
from tinystories.training.step import TrainStep
from tinystories.training.trainer import train


@pytest.fixture(autouse=True)
def here(workspace: Path) -> Path:
    return workspace


def results(here: Path) -> dict[str, bytes]:
    found = (path for room in ("models", "reports") for path in (here / room).rglob("*") if path.is_file())
    return {str(path.relative_to(here)): path.read_bytes() for path in found}


def remove_results(here: Path) -> None:
    """As DVC does before a stage runs."""
    for name in results(here):
        (here / name).unlink()


def no_step(engine: TrainStep, number: int) -> None:
    pytest.fail("a step was trained again")


def test_its_results_are_written_again_byte_for_byte(here, small_params, no_run, monkeypatch, capsys):
    train(small_params, "first")
    expected = results(here)
    assert len(expected) == 11 and no_run.ended == ["FINISHED"]
    remove_results(here)
    monkeypatch.setattr(TrainStep, "step", no_step)
    monkeypatch.setattr(training, "AsyncRunLogger", lambda **_: pytest.fail("a run was opened"))
    monkeypatch.setattr(training, "describe_environment", lambda _: pytest.fail("what runs now is not what trained"))
    capsys.readouterr()
    train(small_params, "first")
    assert results(here) == expected
    (line,) = capsys.readouterr().out.splitlines()
    assert "its results are written again" in line and "make clean-state" in line


def test_freed_it_is_trained_anew(here, small_params, no_run, capsys):
    train(small_params, None)
    weights = (paths.CHECKPOINT / "model.safetensors").read_bytes()
    remove_results(here)
    main(["--free"])
    assert "Freed 1 of 1" in capsys.readouterr().out
    train(small_params, None)
    assert "Epoch 2: " in capsys.readouterr().out
    assert (paths.CHECKPOINT / "model.safetensors").read_bytes() == weights


def test_a_record_of_another_form_is_no_traceback(here, small_params, no_run, capsys):
    train(small_params, None)
    (state,) = Path(".state/train").glob("*/step-*")
    record = json.loads((state / TRAINER_STATE).read_text())["record"]
    record["epoch"] = record.pop("epochs")
    total = checksum([state.parent.name, record], state / TENSORS)
    (state / TRAINER_STATE).write_text(json.dumps({"checksum": total, "record": record}))
    capsys.readouterr()
    train(small_params, None)
    said = capsys.readouterr().out
    assert "its record has another form: epoch: Extra inputs are not permitted" in said
    assert "this training starts anew" in said and "Epoch 2: " in said


def test_a_training_that_ends_pushes_out_those_before(here, small_params, no_run, monkeypatch):
    monkeypatch.setattr(retention, "KEPT", 2)
    states = []
    for seed in range(3):
        train(small_params.model_copy(update={"seed": seed}), None)
        states.append(max(Path(".state/train").glob("*/step-*"), key=lambda path: path.stat().st_mtime_ns))
    assert [state.exists() for state in states] == [False, True, True]


def test_a_stop_before_its_results_are_written_costs_no_step(here, small_params, no_run, monkeypatch):
    """Its last state is saved by then; a stop while they are written again takes nothing from it either."""
    with monkeypatch.context() as patch:
        patch.setattr(training, "save_checkpoint", lambda *_: pytest.fail("stopped here"))
        for _ in range(2):
            with pytest.raises(pytest.fail.Exception, match="stopped here"):
                train(small_params, None)
            patch.setattr(TrainStep, "step", no_step)
    monkeypatch.setattr(TrainStep, "step", no_step)
    train(small_params, None)
    assert paths.RUN.exists() and no_run.ended == ["FINISHED"]


def test_a_clock_that_is_set_back_does_not_end_it_before_it_started(here, small_params, no_run, monkeypatch):
    times = iter(["2026-01-02T00:00:00+00:00", "2026-01-01T00:00:00+00:00"])
    monkeypatch.setattr(training, "_now", lambda: next(times))
    train(small_params, None)
    run = json.loads(paths.RUN.read_text())
    assert run["started"] == "2026-01-02T00:00:00+00:00" <= run["ended"] < "2026-01-03"


def test_others_may_read_all_that_it_writes_as_far_as_the_umask_says(here, small_params, no_run):
    train(small_params, None)
    (here / "new").touch()
    expected = (here / "new").stat().st_mode
    assert {name: (here / name).stat().st_mode for name in results(here)} == dict.fromkeys(results(here), expected)
