"""Notes each step that a training has done, and each state that it has saved, in a file. On PYTHONPATH: strikes.py."""

import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any


class Counting:
    """An import hook: wraps `Engine.step` and `State.save` as they are imported. Lines: `step N`, from 1, `saved N`."""

    def __init__(self, log: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        wrap = {"tinystories.training.step": self._wrap_engine, "tinystories.training.resume": self._wrap_state}.get(
            name
        )
        if wrap is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec and spec.loader
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap_engine(self, module: Any) -> None:
        do_step = module.TrainStep.step

        def step(engine: Any, number: int) -> None:
            do_step(engine, number)
            self._note("step", number + 1)

        module.TrainStep.step = step

    def _wrap_state(self, module: Any) -> None:
        do_save = module.ResumeCheckpoint.save

        def save(checkpoint: Any, tensors: Any, state: Any) -> None:
            do_save(checkpoint, tensors, state)
            self._note("saved", state.step)

        module.ResumeCheckpoint.save = save

    def _note(self, what: str, step: int) -> None:
        os.write(self._log, f"{what} {step}\n".encode())


def count(log: str) -> None:
    sys.meta_path.insert(0, Counting(log))
