"""The frame of every stage script: checked parameters in, one clear line out where something is wrong."""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tinystories.common import paths
from tinystories.common.console import escape_control
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.common.signals import GracefulShutdown, Stopped, end_within_patience, exit_with_parent, raise_stopped
from tinystories.common.urls import shown_address, store_problem

# How many processes do the same thing at once, as torchrun, Open MPI, MPICH (and Intel MPI) and Slurm's srun say it.
PROCESSES = ("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` with the parameters of params.yaml, and exit: 0, 1 after a UserError, 130 or 143 when stopped.

    MLFLOW_TRACKING_URI is checked like a parameter, in every stage: a mistake in it should not show after the training.
    """
    signal.signal(signal.SIGTERM, raise_stopped)
    signal.signal(signal.SIGINT, raise_stopped)
    end_within_patience()
    by_dvc = "DVC_STAGE" in os.environ
    if by_dvc:
        # Nobody takes the results of a stage whose DVC was killed, and they are in the way of the next one. A stage
        # started by hand may well outlive that shell.
        exit_with_parent()
    try:
        _check_processes()
        if by_dvc:
            _check_directories()
        params = load_params()
        if problem := store_problem(store := os.environ.get("MLFLOW_TRACKING_URI", "")):
            raise UserError(f"MLFLOW_TRACKING_URI is {shown_address(store)!r}; it {problem}")
        main(params)
        _sweep()
    except UserError as error:
        sys.exit(f"error: {escape_control(str(error))}")
    except Stopped as stopped:
        sys.exit(128 + stopped.signal_number)
    except OSError as error:
        # A full disk or a directory that may not be written: the system's words and the file say it all.
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {escape_control(f'{place}{error.strerror or error}')}")
    finally:
        for (
            number
        ) in GracefulShutdown.SIGNALS:  # there is nothing left to stop in order: no traceback from Python's own end
            signal.signal(number, signal.SIG_DFL)


def _check_processes() -> None:
    for name in PROCESSES:
        if os.environ.get(name, "1").strip() not in ("", "0", "1"):
            raise UserError(
                f"{name} is {os.environ[name]}; each process would do the whole work; "
                "start one, without torchrun, mpirun or srun"
            )


def _output_directories() -> list[Path]:
    return [path.parent for path in (paths.RAW_TRAIN, paths.TOKENIZER, paths.TOKENS_META, paths.RUN, paths.RECEIPT)]


def _check_directories() -> None:
    """DVC refuses outputs outside its repository, after the work for them."""
    here = Path.cwd().resolve()
    for directory in _output_directories():
        if not (real := directory.resolve()).is_relative_to(here):
            raise UserError(
                f"{directory} leads to {real} by a symbolic link, where DVC takes no outputs; "
                "it should be a directory of the repository; put DVC's cache on the other disk instead (dvc cache dir)"
            )


def _sweep() -> None:
    """Remove what killed stages have half written and nobody overwrites, for DVC had the whole file in its cache.

    That is, what was changed before the whole file beside it came to its place: no stage is at work on it.
    """
    parts = [part for directory in _output_directories() for part in directory.glob(".*.part")]
    left = [(part, part.with_name(part.name.removeprefix(".").removesuffix(".part"))) for part in parts]
    for part, whole in [*left, (paths.DOWNLOADS, paths.RAW_MANIFEST)]:
        with suppress(OSError):
            if part.lstat().st_ctime < whole.lstat().st_ctime:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
