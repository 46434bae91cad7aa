"""Whether Ray can be used where `data.engine` says so. Every stage that handles text checks it, before its work."""

import importlib.util
import os
import socket

from tinystories.common.errors import UserError

CONNECT_SECONDS = 5.0


def check_engine(engine: str) -> None:
    """Errors: UserError where Ray is chosen but is not installed, or its cluster does not answer."""
    if engine != "ray":
        return
    if importlib.util.find_spec("ray") is None:
        raise UserError(
            "data.engine is ray, which is not installed: pip install -c constraints.txt '.[ray]' "
            "(or data.engine=local, which gives the same files)"
        )
    address = ray_address()
    if address in ("local", "auto"):  # a cluster to be started; one that Ray finds on this machine
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdigit()):
        raise UserError(
            f"RAY_ADDRESS is {address!r}; it should be HOST:PORT of the cluster's head (6379 is Ray's default port), "
            "auto, or empty for a cluster on this machine alone"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise no_answer(address, str(error)) from None


def ray_address() -> str:
    """Return RAY_ADDRESS, or `local`: a cluster of this machine alone, that the stage starts and stops."""
    return os.environ.get("RAY_ADDRESS", "").strip() or "local"


def no_answer(address: str, reason: str) -> UserError:
    """Make the error for a cluster that does not answer."""
    return UserError(
        f"RAY_ADDRESS is {address!r}, where no Ray cluster answers ({reason}); start one with `ray start --head`, "
        "or unset it for a cluster on this machine alone"
    )
