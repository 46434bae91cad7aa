"""Log each trained step and each saved state to a file. kill_points.py puts this folder on PYTHONPATH."""

import importlib.machinery
import os
import sys
from types import ModuleType
from typing import Any


class Counting:
    """An import hook that wraps `TrainStep.step` and `ResumeCheckpoint.save`. Lines: `step N`, from 1, `saved N`."""

    def __init__(self, log: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        wraps = {"tinystories.training.step": self._wrap_step, "tinystories.training.resume": self._wrap_save}
        if (wrap := wraps.get(name)) is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec and spec.loader
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def _wrap_step(self, module: Any) -> None:
        do_step = module.TrainStep.step

        def step(train_step: Any, number: int) -> None:
            do_step(train_step, number)
            self._note("step", number + 1)

        module.TrainStep.step = step

    def _wrap_save(self, module: Any) -> None:
        do_save = module.ResumeCheckpoint.save

        def save(checkpoint: Any, tensors: Any, state: Any) -> None:
            do_save(checkpoint, tensors, state)
            self._note("saved", state.step)

        module.ResumeCheckpoint.save = save

    def _note(self, what: str, step: int) -> None:
        os.write(self._log, f"{what} {step}\n".encode())


def count(log: str) -> None:
    sys.meta_path.insert(0, Counting(log))
