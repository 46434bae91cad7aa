"""Run a stage: check its parameters, handle signals, and report a mistake in one line."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tinystories.common import paths
from tinystories.common.console import escape_control
from tinystories.common.cores import limit_spinning
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.signals import GracefulShutdown, Stopped, exit_after_grace, exit_with_parent, raise_stopped
from tinystories.common.urls import shown_address, store_problem

# The number of parallel processes, as torchrun, Open MPI, MPICH (and Intel MPI) and Slurm's srun set it.
WORLD_SIZE_VARIABLES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS_VARIABLES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS")  # under which the stage `train` takes part


def run_stage(main: Callable[[Params], None], parallel: bool = False) -> None:
    """Run `main` with the parameters of params.yaml. Exit status: 0, 1 after a UserError, 130 or 143 when stopped.

    `parallel`: `main` takes part where this is one of several processes, of torchrun or Slurm.
    Every stage checks MLFLOW_TRACKING_URI too: a mistake in it should not show only after the training.
    """
    signal.signal(signal.SIGTERM, raise_stopped)
    signal.signal(signal.SIGINT, raise_stopped)
    exit_after_grace()
    limit_spinning()
    by_dvc = "DVC_STAGE" in os.environ
    if by_dvc:
        # If DVC is killed, its stage's outputs are lost, and in the way of the next run. A stage that was started by
        # hand may outlive its shell.
        exit_with_parent()
    try:
        _check_processes(parallel)
        if by_dvc:
            _check_directories()
        params = load_params()
        if problem := store_problem(store := os.environ.get("MLFLOW_TRACKING_URI", "")):
            raise UserError(f"MLFLOW_TRACKING_URI is {shown_address(store)!r}; it {problem}")
        main(params)
        _remove_leftovers()
    except UserError as error:
        sys.exit(f"error: {escape_control(str(error))}")
    except Stopped as stopped:
        sys.exit(128 + stopped.signal_number)
    except OSError as error:
        # A full disk, a directory without write permission: the system's message and the file name are clear.
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {escape_control(f'{place}{error.strerror or error}')}")
    finally:
        for number in GracefulShutdown.SIGNALS:  # no traceback from a signal while Python exits
            signal.signal(number, signal.SIG_DFL)


def _check_processes(parallel: bool) -> None:
    """Errors: UserError where this is one of several processes, which `parallel` allows those of torchrun and srun."""
    for name in WORLD_SIZE_VARIABLES:
        if parallel and (name in RANKS_VARIABLES or "WORLD_SIZE" in os.environ):
            continue
        if os.environ.get(name, "1").strip() not in ("", "0", "1"):
            raise UserError(
                f"{name} is {os.environ[name]}; each process would do the whole work; "
                "start one, without torchrun, mpirun or srun"
            )


def _output_directories() -> list[Path]:
    return [path.parent for path in (paths.RAW_TRAIN, paths.TOKENIZER, paths.TOKENS_META, paths.RUN, paths.RECEIPT)]


def _check_directories() -> None:
    """Errors: UserError for an output directory outside the repository, which DVC refuses only after the work."""
    here = Path.cwd().resolve()
    for directory in _output_directories():
        if not (real := directory.resolve()).is_relative_to(here):
            raise UserError(
                f"{directory} leads to {real} by a symbolic link, where DVC takes no outputs; "
                "it should be a directory of the repository; put DVC's cache on the other disk instead (dvc cache dir)"
            )


def _remove_leftovers() -> None:
    """Remove partial files of killed stages that no later run has overwritten, because DVC had the file in its cache.

    A partial file older than the whole file is one of these: no running stage is writing it.
    """
    parts = [part for directory in _output_directories() for part in directory.glob(".*.part")]
    leftovers = [(part, part.with_name(part.name.removeprefix(".").removesuffix(".part"))) for part in parts]
    for part, whole in leftovers:
        with suppress(OSError):
            if part.lstat().st_ctime < whole.lstat().st_ctime:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
