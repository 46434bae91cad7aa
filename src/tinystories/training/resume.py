"""The state from which a stopped training goes on: `.state/train/<key>/`, outside of what DVC knows and clears away.

It outlives the training's end too, for its results are safe only once DVC has recorded them: see `retention`.
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

from tinystories.common.console import warn
from tinystories.common.errors import UserError, shorten
from tinystories.common.files import checksum, file_lock, save_tensors, write_json
from tinystories.common.reading import read_json

TENSORS = "tensors.safetensors"
RECORD = "record.json"
MAX_STATE_BYTES = 10**10  # bytes; a row of the history for every step of millions
REMOVED = ".removed-"  # how the name of a directory begins that only waits to be deleted


class Progress(BaseModel):
    """What a training has behind it: with the engine's tensors, all that is needed to go on.

    `training` and `conditions` are what its key is made of, so that others can tell what it is.
    `train_seconds` counts the steps alone, `seconds` the whole stage, over all its starts. `environment` is what the
    last of them ran on. `ended`, where the training is finished: then only its results are to be written.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    started: str
    training: str = ""
    conditions: dict[str, str | int | bool | None] = {}
    ended: str | None = None
    environment: dict[str, str | int | bool | None] = {}
    step: NonNegativeInt = 0
    train_seconds: float = 0.0
    seconds: float = 0.0
    row_step: NonNegativeInt = 0  # of the last row of the history
    row_seconds: float = 0.0
    epoch_loss_sum: float = 0.0
    run_id: str | None = None
    history: list[dict[str, int | float]] = []
    epochs: list[dict[str, int | float]] = []
    samples: list[str] = []


class ResumeCheckpoint:
    """The saved states of one training. Each is a directory `step-N`, or `step-N+M`, complete once it has that name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, tensors: dict[str, Tensor], progress: Progress) -> None:
        """Save a state, then drop those before it: at every moment a complete one is there."""
        before, record = self.saved(), progress.model_dump()
        part = self._directory / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part / TENSORS)
        # With the training's key, so that a state in the place of another one is told from its own.
        total = checksum([self._directory.name, record], part / TENSORS)
        write_json(part / RECORD, {"checksum": total, "record": record})
        part.rename(self._directory / _name(progress.step, before))
        for path in before:
            _remove(path)

    def load(self, expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], Progress] | None:
        """The newest state that is whole, as tensors and progress; None where there is none.

        One that is damaged in a single bit, of another training, whose record has not the form of `Progress`, or whose
        tensors have not names, shapes and types of the `expected` ones is left out, with a warning.
        """
        states = self.saved()
        for path in states:
            try:
                saved = read_json(path / RECORD, largest=MAX_STATE_BYTES)
                record = saved["record"]
                if saved["checksum"] != checksum([self._directory.name, record], path / TENSORS):
                    raise UserError("its checksum is wrong")
                progress = _progress(record)
                tensors = load_file(path / TENSORS)
                if _signature(tensors) != _signature(expected):
                    raise UserError("its tensors are of another model")
                return tensors, progress
            except (UserError, OSError, KeyError, SafetensorError) as error:
                warn(f"{path}: this saved state is damaged and is left out ({shorten(str(error), 200)})")
        if states:
            warn("no saved state is whole: this training starts anew")
        return None

    def remove(self) -> None:
        """Drop everything: it is of no use, or no longer."""
        _remove(self._directory)

    def saved(self) -> list[Path]:
        """The directories of the complete states, newest first."""
        found = (path for path in self._directory.glob("step-*") if re.fullmatch(r"step-\d+(\+\d*)?", path.name))
        return sorted(found, reverse=True)


def read_state(path: Path) -> Progress:
    """The progress of the state in the directory `path`, its tensors unread, so without a look at the checksum.

    Errors: UserError where there is no record of that form.
    """
    return _progress(read_json(path / RECORD, largest=MAX_STATE_BYTES).get("record"))


def _progress(record: Any) -> Progress:
    try:
        return Progress.model_validate(record)
    except ValidationError as error:  # of another version of this program, say
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"its record has another form: {place and f'{place}: '}{first['msg']}") from None


def _name(step: int, before: list[Path]) -> str:
    """For a new state: sorts after all `before` of this very step, which go only when it stands beside them."""
    name = f"step-{step:012}"
    times = [int(again or 0) for first, _, again in (path.name.partition("+") for path in before) if first == name]
    return f"{name}+{max(times) + 1:04}" if times else name


def _remove(path: Path) -> None:
    """Take a directory away, whole or not at all: a kill on the way leaves nothing that looks like a damaged state."""
    with suppress(OSError):  # a disk without a byte: then it is deleted where it stands
        path = path.rename(path.with_name(f"{REMOVED}{uuid.uuid4().hex}"))
    shutil.rmtree(path, ignore_errors=True)


def sweep(directory: Path) -> None:
    """Delete what killed processes have left here of what they removed; one that is still at it is not disturbed."""
    for path in directory.glob(f"{REMOVED}*"):
        shutil.rmtree(path, ignore_errors=True)


def _signature(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


@contextmanager
def lock_checkpoint(parent: Path, key: str) -> Iterator[ResumeCheckpoint]:
    """The state of the training `key`, for one process at a time; a second waits until the first has ended."""
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    sweep(parent / key)
    waiting = f"The same training runs already (key {key[:12]}); waiting for it to end."
    with file_lock(parent / f"{key}.lock", waiting):
        yield ResumeCheckpoint(parent / key)
