"""`tinystories serve`: llama.cpp's server with the model in it."""

import argparse

EXAMPLES = """\
examples:
  tinystories serve                 the page http://127.0.0.1:8080, and OpenAI's API under http://127.0.0.1:8080/v1
  tinystories serve --port 9000 models/epochs/epoch_1
  tinystories serve my.gguf         any model in GGUF
  tinystories serve models:/tinystories@champion
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from tinystories.common.paths import CHECKPOINT

    parser.epilog = EXAMPLES
    parser.add_argument(
        "model",
        nargs="?",
        default=str(CHECKPOINT),
        help="a checkpoint directory, models:/NAME@ALIAS, or a .gguf file (%(default)s)",
    )
    parser.add_argument("--port", type=_port, default=8080, help="where to listen (%(default)s)")
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="at which address (%(default)s: only this machine connects)",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port; 1 to 65535")
    return int(text)


def run(options: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    from tinystories.export.llama_server import serve

    serve(options.model, options.host, options.port)
