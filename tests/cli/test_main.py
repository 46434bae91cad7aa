"""The command as a whole: help, mistakes, Ctrl-C, a closed pipe. A subcommand that a test makes stands for all."""

import errno
import sys
from types import ModuleType
from typing import Any

import pytest

from tinystories.cli import main as module
from tinystories.cli.main import main
from tinystories.common.errors import UserError


@pytest.fixture
def subcommand(monkeypatch):
    """A subcommand `try`, whose `run` a test sets."""
    made: Any = ModuleType("tinystories.cli.try")
    made.add_arguments = lambda parser: parser.add_argument("--number", type=int)
    monkeypatch.setitem(module.SUBCOMMANDS, "try", "do what a test wants")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


def raises(error):
    def run(options):
        raise error

    return run


def test_main_passes_options(subcommand):
    seen = []
    subcommand.run = lambda options: seen.append(options.number)
    assert main(["try", "--number", "3"]) == 0
    assert seen == [3]


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("a: no\x1b[2J such file"), 1, "error: a: no\\x1b[2J such file\n"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), 1, "error: x: No such file or directory\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: No space left on device\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_main_tells_errors_in_one_line(subcommand, capsys, error, status, said):
    subcommand.run = raises(error)
    assert main(["try"]) == status
    assert capsys.readouterr() == ("", said)


def test_main_lets_a_defect_through(subcommand):
    subcommand.run = raises(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["try"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: subcommand; see tinystories --help"),
        (["tri"], "invalid choice: 'tri'"),
        (["try", "--number", "x"], "argument --number: invalid int value: 'x'; see tinystories try --help"),
        (["try", "--numb", "1"], "unrecognized arguments: --numb 1"),
    ],
)
def test_main_refuses_wrong_arguments(subcommand, capsys, arguments, words):
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and words in err and err.count("\n") == 1


@pytest.mark.parametrize("name", module.SUBCOMMANDS)
def test_help_shows_examples(capsys, name):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"  tinystories {name} " in capsys.readouterr().out.partition("examples:")[2]
