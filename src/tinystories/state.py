"""The state from which a stopped training goes on: `.state/train/<key>/`, outside of what DVC knows and clears away."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tinystories.console import warn
from tinystories.errors import UserError
from tinystories.files import one_at_a_time, read_json, sha256_of, write_json

TENSORS = "tensors.safetensors"
RECORD = "record.json"


class State:
    """The saved states of one training. Each is a directory `step-N`, complete once it has that name."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def save(self, step: int, tensors: dict[str, Tensor], record: dict[str, Any]) -> None:
        """Save a state, then drop those before it: at every moment a complete one is there."""
        before = self._saved()
        part = self._directory / "part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, part / TENSORS)
        write_json(part / RECORD, {"sha256": sha256_of(part / TENSORS), "record": record})
        target = self._directory / f"step-{step:012}"
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        for path in before:
            if path != target:
                shutil.rmtree(path, ignore_errors=True)

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The newest state that is whole, as tensors and record; None where there is none."""
        for path in self._saved():
            try:
                saved = read_json(path / RECORD)
                if saved["sha256"] != sha256_of(path / TENSORS):
                    raise UserError("its checksum is wrong")
                return load_file(path / TENSORS), saved["record"]
            except (UserError, OSError, KeyError, SafetensorError) as error:
                warn(f"{path}: this saved state is damaged and is left out ({error})")
        return None

    def remove(self) -> None:
        """Drop everything: the training is done, or its state is of no use."""
        shutil.rmtree(self._directory, ignore_errors=True)

    def _saved(self) -> list[Path]:
        return sorted(self._directory.glob("step-*"), reverse=True)


@contextmanager
def locked_state(parent: Path, key: str) -> Iterator[State]:
    """The state of the training `key`, for one process at a time; a second waits until the first has ended."""
    parent.mkdir(parents=True, exist_ok=True)
    waiting = f"The same training runs already (key {key[:12]}); waiting for it to end."
    with one_at_a_time(parent / f"{key}.lock", waiting):
        yield State(parent / key)
