"""The state from which a stopped training goes on: `.state/train/<key>/`, outside of what DVC knows and clears away."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tinystories.console import warn
from tinystories.errors import UserError, shorten
from tinystories.files import checksum, one_at_a_time, save_tensors, write_json
from tinystories.reading import read_json

TENSORS = "tensors.safetensors"
RECORD = "record.json"
LARGEST_RECORD = 10**10  # bytes; a row of the history for every step of millions


class State:
    """The saved states of one training. Each is a directory `step-N`, or `step-N+`, complete once it has that name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Save a state, then drop those before it: at every moment a complete one is there."""
        before = self._saved()
        part = self._directory / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part / TENSORS)
        # With the training's key, so that a state in the place of another one is told from its own.
        total = checksum([self._directory.name, record], part / TENSORS)
        write_json(part / RECORD, {"checksum": total, "record": record})
        target = self._directory / f"step-{step:012}"
        while target in before:  # a state of this very step: it goes only when the new one stands beside it
            target = target.with_name(f"{target.name}+")
        part.rename(target)
        for path in before:
            shutil.rmtree(path, ignore_errors=True)

    def load(self, expected: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest state that is whole, as tensors and record; None where there is none.

        One that is damaged in a single bit, of another training, or whose tensors have not names, shapes and types of
        the `expected` ones is left out, with a warning.
        """
        states = self._saved()
        for path in states:
            try:
                saved = read_json(path / RECORD, largest=LARGEST_RECORD)
                record = saved["record"]
                if saved["checksum"] != checksum([self._directory.name, record], path / TENSORS):
                    raise UserError("its checksum is wrong")
                tensors = load_file(path / TENSORS)
                if _forms(tensors) != _forms(expected):
                    raise UserError("its tensors are of another model")
                return tensors, record
            except (UserError, OSError, KeyError, SafetensorError) as error:
                warn(f"{path}: this saved state is damaged and is left out ({shorten(str(error), 200)})")
        if states:
            warn("no saved state is whole: this training starts anew")
        return None

    def remove(self) -> None:
        """Drop everything: the training is done, or its state is of no use."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _saved(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"), reverse=True)


def _forms(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


@contextmanager
def locked_state(parent: Path, key: str) -> Iterator[State]:
    """The state of the training `key`, for one process at a time; a second waits until the first has ended."""
    parent.mkdir(parents=True, exist_ok=True)
    waiting = f"The same training runs already (key {key[:12]}); waiting for it to end."
    with one_at_a_time(parent / f"{key}.lock", waiting):
        yield State(parent / key)
