"""The process of a rank that the stage has started: `python -m tinystories.training.follower`, parameters on stdin.

It writes to stdout, for `launch.Followers`: a dot every second, READY, and after `!` why it ends.
"""

import os
import sys
import threading
import time

from tinystories.common.cores import limit_spinning
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.signals import exit_with_parent

BEAT_SECONDS = 1.0


def _beat() -> None:
    try:
        while True:
            os.write(1, b".")
            time.sleep(BEAT_SECONDS)
    except OSError:  # rank 0 is gone
        os._exit(1)


def main() -> None:
    """Compute until the training's end. Exit status: 0, or 1 with the reason written."""
    threading.Thread(target=_beat, daemon=True).start()
    exit_with_parent()
    limit_spinning()
    sys.stdout = sys.stderr  # what is said is said by rank 0
    try:
        params = Params.model_validate_json(sys.stdin.buffer.read())
        from tinystories.training.trainer import train

        train(params, None)
    except Exception as error:
        os.write(1, b"!" + f"{type(error).__name__ if not isinstance(error, UserError) else 'error'}: {error}".encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
