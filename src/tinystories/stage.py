"""The frame of every stage script: checked parameters in, one clear line out where something is wrong."""

import signal
import sys
from collections.abc import Callable

from tinystories.errors import UserError
from tinystories.params import Params, load_params
from tinystories.stopping import Stopped, raise_stopped


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` with the parameters of params.yaml, and exit: 0, 1 after a UserError, 130 or 143 when stopped."""
    signal.signal(signal.SIGTERM, raise_stopped)
    signal.signal(signal.SIGINT, raise_stopped)
    try:
        main(load_params())
    except UserError as error:
        sys.exit(f"error: {error}")
    except Stopped as stopped:
        sys.exit(128 + stopped.signal_number)
    except OSError as error:
        # A full disk or a directory that may not be written: the system's words and the file say it all.
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror or error}")
