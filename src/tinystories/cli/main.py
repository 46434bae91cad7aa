"""The parser of all subcommands, and what every one of them does about errors, Ctrl-C and a closed pipe.

A subcommand `name` is the module tinystories.cli.name with two functions: `add_arguments(parser)`, which may also set
the parser's description and epilog (its examples), and `run(options)`. Only the chosen one is imported.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tinystories.common.console import escape_control
from tinystories.common.errors import UserError

# In the order of `tinystories --help`.
SUBCOMMANDS = {
    "generate": "write stories with a trained model",
    "score": "say how well a model predicts a text: loss, perplexity, bits per byte",
    "export": "write the model as a file for other programs",
    "serve": "serve the model over HTTP, with OpenAI's API and a page to play with",
    "compare": "set runs beside each other: their curves, a ranking, what differs between them",
    "state": "list the saved states of trainings, or remove them",
}
CLOSED_PIPE = 141  # 128 + SIGPIPE, as a shell reports other programs
INTERRUPTED = 130  # 128 + SIGINT


class Parser(argparse.ArgumentParser):
    """Reports a wrong argument in one line, as every other mistake of the user."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns the exit status: 0, 1 after a mistake of the user, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that has not every letter
        options = parser(next(iter(arguments), "")).parse_args(arguments)
        importlib.import_module(f"tinystories.cli.{options.subcommand}").run(options)
        sys.stdout.flush()
    except UserError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes once more as it exits, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED_PIPE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    return 0


def _fail(message: str) -> int:
    print(f"error: {escape_control(message)}", file=sys.stderr)
    return 1


def parser(chosen: str) -> Parser:
    """The parser. Only the chosen subcommand has its arguments; the others have their line in the help."""
    whole = Parser(prog="tinystories", description="Use the models that the pipeline trains.", allow_abbrev=False)
    subparsers = whole.add_subparsers(dest="subcommand", metavar="subcommand", required=True)
    for name, summary in SUBCOMMANDS.items():
        part = subparsers.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            importlib.import_module(f"tinystories.cli.{name}").add_arguments(part)
    return whole
