"""llama.cpp's own server, from the package xllamacpp, with a model of ours in it. Without PyTorch.

It speaks OpenAI's completions and chat under /v1, and shows a page to play with.
"""

import os
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NoReturn

from tinystories.common.console import info
from tinystories.common.errors import UserError, shorten
from tinystories.export.gguf import export_gguf
from tinystories.tracking.mlflow_registry import SCHEME, checkpoint_directory

SLOTS = 8  # requests that are computed side by side; more of them wait
# Threads meet after each of some hundred small operations a token, and spin there: on cores shared with other programs
# one answered 24 requests a second, two less than one.
THREADS = 1
MODEL_NAME = "tinystories"  # in answers; in requests any name will do
GGUF_MAGIC = b"GGUF"
_ERRORS = 1  # what llama.cpp logs


def serve(model: str, host: str, port: int) -> NoReturn:
    """Serve a model until Ctrl-C or SIGTERM, which end the process with status 0.

    `model`: a checkpoint directory, an address in MLflow, or a GGUF file.
    Errors: UserError where the extra `serve` is not installed, the port is taken, or the model cannot be read.
    """
    try:
        import xllamacpp
    except ImportError:
        raise UserError("xllamacpp is not installed; pip install -c constraints.txt -e '.[serve]'") from None
    _check_port(host, port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="tinystories-") as directory:
        path = Path(model)
        if model.startswith(SCHEME) or path.suffix != ".gguf":
            path = Path(directory) / "model.gguf"
            with checkpoint_directory(model) as checkpoint:
                export_gguf(checkpoint, path)
        parameters = _parameters(xllamacpp.CommonParams(), path, host, port)
        try:
            server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise UserError(f"{model}: llama.cpp does not serve it ({shorten(str(error), 200)})") from None
        try:
            where = f"Serving {model} at {server.listening_address}: a page to play with, OpenAI's API under /v1."
            info(f"{where}\nCtrl-C ends it.")
            threading.Event().wait()
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends in an instant
    sys.stdout.flush()
    os._exit(0)  # llama.cpp's own end waits, for an hour, until the streams that it is writing have been read


def _check_port(host: str, port: int) -> None:
    """Errors: UserError where nothing can listen at that address."""
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        number = error.errno or 0  # below 0: the host is no address
        problem = os.strerror(number) if number > 0 else error.strerror or error
        raise UserError(f"--host {host} --port {port}: {problem}; name another") from None


def _parameters(parameters: Any, path: Path, host: str, port: int) -> Any:
    """Fill in llama.cpp's parameters for one model of a short context."""
    parameters.model.path = str(path)
    parameters.model_alias = {MODEL_NAME}
    parameters.hostnames = [host]
    parameters.port = port
    parameters.n_parallel = SLOTS
    parameters.n_ctx = SLOTS * _context_length(path)
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
    parameters.fit_params = False  # the model is small, and so is its context
    parameters.cache_ram_mib = 0  # a finished text is not kept
    parameters.offline = True
    parameters.verbosity = _ERRORS
    # By default any page that the user's browser has open could ask; and any user could read what others ask.
    parameters.cors_origins, parameters.cors_origins_explicit = f"http://{host}:{port}", True
    parameters.endpoint_slots = False
    return parameters


def _context_length(path: Path) -> int:
    """Read a GGUF file's context. Errors: UserError where it is missing or no model in GGUF."""
    from gguf import GGUFReader

    try:
        with path.open("rb") as file:
            if file.read(4) != GGUF_MAGIC:
                raise ValueError("it begins with other bytes")
        fields = GGUFReader(path).fields
        return int(fields[f"{fields['general.architecture'].contents()}.context_length"].contents())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; tinystories export gguf writes one") from None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: not a model in GGUF ({shorten(str(error), 200)})") from None
