"""The resume checkpoint of a training, in `.state/train/<key>/`, which DVC does not know and does not clear away.

It is kept after the end of the training too, because the results are safe only once DVC has recorded them: see
`retention`.
"""

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.console import warn
from tinystories.common.errors import UserError, shorten
from tinystories.common.files import checksum, file_lock, save_tensors, write_json
from tinystories.common.reading import read_json
from tinystories.model.checkpoint import load_checkpoint

TENSORS = "tensors.safetensors"
TRAINER_STATE = "trainer_state.json"
MAX_STATE_BYTES = 10**10  # of trainer_state.json: a history row for each of millions of steps
REMOVED = ".removed-"  # prefix of a directory that waits to be deleted


class TrainerState(BaseModel):
    """All that a training needs to resume, besides the tensors of the model and the optimizer.

    `training` and `conditions` are what the key is a hash of (`run_key`). `environment` is what the last process ran
    on. `train_seconds` is the time of the steps alone, `startup_seconds` of each process's first step, which compiles;
    `seconds` is that of the whole stage. All three are over all processes.
    `kept_epochs` are those, from 1, whose weights lie beside the states: see `ResumeCheckpoint.epoch`.
    `ended` is set once the training has finished.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    started: str
    training: str = ""
    conditions: dict[str, str | int | bool | None] = {}
    ended: str | None = None
    environment: dict[str, str | int | bool | None] = {}
    step: NonNegativeInt = 0
    train_seconds: float = 0.0
    startup_seconds: float = 0.0
    seconds: float = 0.0
    last_logged_step: NonNegativeInt = 0
    last_logged_seconds: float = 0.0  # train_seconds at that step
    epoch_loss_sum: float = 0.0
    run_id: str | None = None
    history: list[HistoryRow] = []
    epochs: list[EpochRow] = []
    kept_epochs: list[NonNegativeInt] = []


class ResumeCheckpoint:
    """The saved states of one training. Each is a directory `step-N` or `step-N+M`, complete once it has that name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def key(self) -> str:
        """The training's key."""
        return self._directory.name

    def save(self, tensors: dict[str, Tensor], state: TrainerState) -> None:
        """Save a state, then remove those before it, so that there is a complete one at every moment.

        Last go the weights of epochs that it no longer names.
        """
        before, values = self.saved(), state.model_dump()
        tmp = self._directory / "tmp"
        shutil.rmtree(tmp, ignore_errors=True)
        tmp.mkdir(parents=True)
        save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, tmp / TENSORS)
        # The checksum includes the key, so that a state in another training's directory is refused.
        total = checksum([self.key, values], tmp / TENSORS)
        write_json(tmp / TRAINER_STATE, {"checksum": total, "state": values})
        tmp.rename(self._directory / _directory_name(state.step, before))
        kept = {self.epoch(number) for number in state.kept_epochs}
        for path in [*before, *(set((self._directory / "epochs").glob("*")) - kept)]:
            _remove(path)

    def load(self, expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], TrainerState] | None:
        """Load the newest intact state. Returns None if there is none.

        A state is skipped with a warning if a single bit is damaged, if it belongs to another training, if its trainer
        state does not validate, if its tensors differ from the `expected` ones in names, shapes or dtypes, or if the
        weights of an epoch that it has kept are damaged.
        """
        states = self.saved()
        for path in states:
            try:
                saved = read_json(path / TRAINER_STATE, largest=MAX_STATE_BYTES)
                values = saved["state"]
                if saved["checksum"] != checksum([self.key, values], path / TENSORS):
                    raise UserError("its checksum is wrong")
                state = _validate(values)
                tensors = load_file(path / TENSORS)
                if _signature(tensors) != _signature(expected):
                    raise UserError("its tensors are of another model")
                for number in state.kept_epochs:
                    load_checkpoint(self.epoch(number))
                return tensors, state
            except (UserError, OSError, KeyError, SafetensorError) as error:
                warn(f"{path}: this saved state is damaged and is skipped ({shorten(str(error), 200)})")
        if states:
            warn("no saved state is intact: this training starts over")
        return None

    def epoch(self, number: int) -> Path:
        """The checkpoint directory of an epoch, from 1. It is written before the first state that names the epoch."""
        return paths.epoch_checkpoint(number, self._directory / "epochs")

    def remove(self) -> None:
        """Remove all saved states, and the weights of the epochs."""
        _remove(self._directory)

    def saved(self) -> list[Path]:
        """The directories of the complete states, newest first."""
        found = (path for path in self._directory.glob("step-*") if re.fullmatch(r"step-\d+(\+\d*)?", path.name))
        return sorted(found, reverse=True)


def read_state(path: Path) -> TrainerState:
    """Read the trainer state in the directory `path` without the tensors, so without verifying the checksum.

    Errors: UserError if it is missing or does not validate.
    """
    return _validate(read_json(path / TRAINER_STATE, largest=MAX_STATE_BYTES).get("state"))


def _validate(values: Any) -> TrainerState:
    try:
        return TrainerState.model_validate(values)
    except ValidationError as error:  # written by another version of this program, say
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"its trainer state has another form: {place and f'{place}: '}{first['msg']}") from None


def _directory_name(step: int, before: list[Path]) -> str:
    """The name for a new state. It sorts after all `before` of the same step, which are removed later."""
    name = f"step-{step:012}"
    times = [int(again or 0) for first, _, again in (path.name.partition("+") for path in before) if first == name]
    return f"{name}+{max(times) + 1:04}" if times else name


def _remove(path: Path) -> None:
    """Delete a directory. It is renamed first: a kill meanwhile leaves nothing that looks like a damaged state."""
    with suppress(OSError):  # a disk without a free byte: then it is deleted under its own name
        path = path.rename(path.with_name(f"{REMOVED}{uuid.uuid4().hex}"))
    shutil.rmtree(path, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Delete what killed processes have left of the states they removed. Safe while another process deletes."""
    for path in directory.glob(f"{REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _signature(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


@contextmanager
def lock_checkpoint(parent: Path, key: str) -> Iterator[ResumeCheckpoint]:
    """Hold the resume checkpoint of the training `key`. A second process waits until the first has ended."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    sweep(parent / key)
    waiting = f"The same training is already running (key {key[:12]}); waiting for it to end."
    with file_lock(parent / f"{key}.lock", waiting):
        yield ResumeCheckpoint(parent / key)
