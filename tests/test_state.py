"""The state from which a stopped training goes on."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tinystories import state as module
from tinystories.state import RECORD, TENSORS, State, locked_state


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": torch.randn(5, 7, generator=generator),
        "transposed": torch.randn(5, 7, generator=generator).T,
        "rounded": torch.randn(9, generator=generator).bfloat16(),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "sum": torch.tensor(1.25),
    }


RECORDED = {"step": 3, "loss": 0.1 + 0.2, "run_id": None, "history": [{"step": 1.0}], "text": "Zoë 🐉\n"}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        found[name].dtype == tensor.dtype
        and found[name].shape == tensor.shape
        and found[name].contiguous().view(torch.uint8).equal(tensor.contiguous().view(torch.uint8))
        if tensor.ndim
        else torch.equal(found[name], tensor)
        for name, tensor in expected.items()
    )


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "key"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_saved_comes_back_to_the_bit(directory):
    State(directory).save(3, tensors(), RECORDED)
    loaded = State(directory).load()
    assert loaded is not None
    assert same(loaded[0], tensors())
    assert loaded[1] == RECORDED


def test_weights_that_learn_can_be_saved(directory):
    State(directory).save(0, {"weight": torch.nn.Parameter(torch.ones(2))}, {})
    loaded = State(directory).load()
    assert loaded is not None
    assert not loaded[0]["weight"].requires_grad


def test_nothing_saved(directory):
    assert State(directory).load() is None


def test_a_new_state_takes_the_place_of_the_old(directory):
    saved = State(directory)
    for step in (9, 10, 10, 200):
        saved.save(step, tensors(step), {"step": step})
        assert len(names(directory)) == 1
        loaded = saved.load()
        assert loaded is not None
        assert same(loaded[0], tensors(step))
        assert loaded[1] == {"step": step}


def test_an_error_while_saving_keeps_the_one_before(directory, monkeypatch, capsys):
    saved = State(directory)
    saved.save(1, tensors(1), {"step": 1})

    def full(*arguments: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OSError, match="no space left"):
        saved.save(2, tensors(2), {"step": 2})
    loaded = saved.load()
    assert loaded is not None
    assert loaded[1] == {"step": 1}
    monkeypatch.undo()
    saved.save(3, tensors(3), {"step": 3})
    assert names(directory) == ["step-000000000003"]


def damage(path: Path, how: str) -> None:
    data = (path / TENSORS).read_bytes()
    if how == "cut":
        (path / TENSORS).write_bytes(data[:-1])
    elif how == "one bit":
        (path / TENSORS).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif how == "no tensors":
        (path / TENSORS).unlink()
    elif how == "no record":
        (path / RECORD).unlink()
    else:
        (path / RECORD).write_text(how)


DAMAGES = [
    "cut",
    "one bit",
    "no tensors",
    "no record",
    "",
    "{",
    "[]",
    "{}",
    '{"sha256": ""}',
    '{"sha256": null, "record": {}}',
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_state_is_left_out_with_a_warning(directory, capsys, how):
    """The one before, which a stop between the rename and the removal leaves, is taken then."""
    State(directory.with_name("older")).save(7, tensors(7), {"step": 7})
    State(directory).save(12, tensors(12), {"step": 12})
    damage(directory / "step-000000000012", how)
    assert State(directory).load() is None
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: ")
    assert "step-000000000012: this saved state is damaged" in lines[0]

    (directory.with_name("older") / "step-000000000007").rename(directory / "step-000000000007")
    loaded = State(directory).load()
    assert loaded is not None
    assert same(loaded[0], tensors(7))
    assert loaded[1] == {"step": 7}


def test_the_newest_of_two_is_taken(directory):
    for step in (99, 1_000_000):
        State(directory.with_name(str(step))).save(step, tensors(step), {"step": step})
        directory.mkdir(exist_ok=True)
        next(directory.with_name(str(step)).iterdir()).rename(directory / f"step-{step:012}")
    loaded = State(directory).load()
    assert loaded is not None
    assert loaded[1] == {"step": 1_000_000}


def test_a_half_written_state_is_ignored(directory):
    (directory / "part").mkdir(parents=True)
    (directory / "part" / TENSORS).write_bytes(b"half")
    assert State(directory).load() is None
    State(directory).save(1, tensors(), RECORDED)
    assert names(directory) == ["step-000000000001"]


def test_it_can_be_removed(directory):
    State(directory).save(1, tensors(), RECORDED)
    State(directory).remove()
    assert State(directory).load() is None
    assert not directory.exists()
    State(directory).remove()


HOLDER = """
import sys
from pathlib import Path
from tinystories.state import locked_state

with locked_state(Path(sys.argv[1]), sys.argv[2]):
    print("holds it", flush=True)
    sys.stdin.readline()
    (Path(sys.argv[1]) / "done").touch()
"""


def holder(parent: Path, key: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(parent), key]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_one_process_at_a_time_has_the_state_of_a_key(tmp_path, capsys):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "holds it\n"
        with locked_state(tmp_path, "other"):
            assert first.poll() is None, "another key does not wait"
        assert capsys.readouterr().out == ""
        with holder(tmp_path, "one") as second:
            assert second.stdout is not None
            assert "runs already (key one); waiting" in second.stdout.readline()
            assert not (tmp_path / "done").exists()
            first.communicate("\n")
            assert second.stdout.readline() == "holds it\n"
            assert (tmp_path / "done").exists()
            second.communicate("\n")


def test_a_killed_process_leaves_no_lock(tmp_path):
    with holder(tmp_path, "one") as first:
        assert first.stdout is not None
        first.stdout.readline()
        first.kill()
    with locked_state(tmp_path, "one") as saved:
        saved.save(1, tensors(), {})
        assert names(tmp_path / "one") == ["step-000000000001"]


def test_the_lock_goes_with_the_block_also_after_an_error(tmp_path, capsys):
    with pytest.raises(RuntimeError), locked_state(tmp_path, "one"):
        raise RuntimeError
    with locked_state(tmp_path, "one"):
        assert capsys.readouterr().out == "", "nothing to wait for"
