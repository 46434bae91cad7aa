"""The frame of every stage script: checked parameters in, one clear line out where something is wrong."""

import os
import signal
import sys
from collections.abc import Callable

from tinystories.addresses import shown_address, store_problem
from tinystories.console import printable
from tinystories.errors import UserError
from tinystories.params import Params, load_params
from tinystories.stopping import Stopped, raise_stopped, stop_with_parent


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` with the parameters of params.yaml, and exit: 0, 1 after a UserError, 130 or 143 when stopped.

    MLFLOW_TRACKING_URI is checked like a parameter, in every stage: a mistake in it should not show after the training.
    """
    signal.signal(signal.SIGTERM, raise_stopped)
    signal.signal(signal.SIGINT, raise_stopped)
    if "DVC_STAGE" in os.environ:
        # Nobody takes the results of a stage whose DVC was killed, and they are in the way of the next one. A stage
        # started by hand may well outlive that shell.
        stop_with_parent()
    try:
        params = load_params()
        if problem := store_problem(store := os.environ.get("MLFLOW_TRACKING_URI", "")):
            raise UserError(f"MLFLOW_TRACKING_URI is {shown_address(store)!r}; it {problem}")
        main(params)
    except UserError as error:
        sys.exit(f"error: {printable(str(error))}")
    except Stopped as stopped:
        sys.exit(128 + stopped.signal_number)
    except OSError as error:
        # A full disk or a directory that may not be written: the system's words and the file say it all.
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {printable(f'{place}{error.strerror or error}')}")
