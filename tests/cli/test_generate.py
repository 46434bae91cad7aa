"""`tinystories generate`: what it prints, on a terminal and off it. One test starts processes, with a terminal."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import tinystories
from tinystories.cli import generate as module
from tinystories.cli.main import main


class Terminal(io.StringIO):
    """Where somebody types, or reads."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(here, monkeypatch, capsys):
    """Run it with what standard input holds, and return what it prints."""

    def run(*arguments: str, typed: bytes = b"", status: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(typed), encoding="utf-8"))
        assert main(["generate", "--length", "20", *arguments]) == status
        out, err = capsys.readouterr()
        assert not status or (err.startswith("error: ") and err.count("\n") == 1 and not out)
        return str(err if status else out)

    return run


def test_generate_prints_prompt_and_text(run):
    text = tinystories.load().generate("One day", seed=3, length=20)
    assert run("One day", "--seed", "3") == f"One day{text}\n"
    assert run("", "--seed", "3") == tinystories.load().generate(seed=3, length=20) + "\n"


def test_generate_several_apart(run):
    model = tinystories.load()
    expected = [f"Lily{model.generate('Lily', seed=seed, length=20)}\n<|endoftext|>\n" for seed in (7, 8, 9)]
    assert run("Lily", "--seed", "7", "-n", "3") == "".join(expected)


def test_generate_json(run):
    lines = [json.loads(line) for line in run("a <|endoftext|>\x1b", "--json", "--seed", "7", "-n", "2").splitlines()]
    texts = [tinystories.load().generate("a <|endoftext|>\x1b", seed=seed, length=20) for seed in (7, 8)]
    assert lines == [
        {"prompt": "a <|endoftext|>\x1b", "text": text, "seed": seed, "tokens": 20, "ended": False}
        for seed, text in zip((7, 8), texts, strict=True)
    ]
    (until_the_end,) = map(json.loads, run("", "--json", "--seed", "3", "--length", "3000").splitlines())
    assert until_the_end["ended"] and until_the_end["tokens"] < 3000


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_generate_from_standard_input(run, arguments):
    assert run(*arguments, "--seed", "3", typed="Zoë\nwent\n".encode()) == run("Zoë\nwent", "--seed", "3")
    assert "error: standard input: not UTF-8 at byte 2" in run(*arguments, typed=b"ab\xff", status=1)
    assert run(*arguments, "--seed", "3") == run("", "--seed", "3")


def test_generate_options_change_what_is_drawn(run):
    plain = run("One", "--seed", "3")
    options = (["--top-k", "2"], ["--top-p", "0.1"], ["--temperature", "9"], ["--seed", "4"], ["--length", "9"])
    assert all(run("One", "--seed", "3", *option) != plain for option in options)
    assert run("One", "--temperature", "0") == run("One", "--top-k", "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--temperature", "nan"], "temperature is nan; it should be"),
        (["--top-k", "0"], "top_k is 0; it should be"),
        (["--length", "0"], "length is 0; it should be"),
        (["-n", "99999999999"], "n is 99,999,999,999; it should be"),
        (["--seed", "-1"], "seed is -1; it should be"),
        (["-m", "nowhere"], "nowhere: no such directory; it should be"),
        (["-m", "models:/story"], "models:/story: no model's address; it should be"),
        (["-m", "models:/story@best"], "mlflow.db: no such file; nothing has been recorded there"),
        (["\udcff"], "the text is not UTF-8"),
    ],
)
def test_generate_refuses(run, monkeypatch, arguments, words):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert words in run(*arguments, status=1)


def test_generate_on_a_terminal_runs_no_escape_sequences(run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    assert main(["generate", "\x1b[2JOne", "--seed", "3", "--length", "100"]) == 0
    assert screen.getvalue().startswith("\\x1b[2JOne")
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in screen.getvalue())


def test_generate_asks_until_an_empty_line(here, monkeypatch, capsys):
    typed = iter(["Lily", "Tom", "", "never read"])
    monkeypatch.setattr("builtins.input", lambda question="": next(typed))
    monkeypatch.setattr("sys.stdin", Terminal())
    assert main(["generate", "--seed", "3", "--length", "5"]) == 0
    out, err = capsys.readouterr()
    model = tinystories.load()
    assert out == "".join(f"{name}{model.generate(name, seed=3, length=5)}\n" for name in ("Lily", "Tom"))
    assert err.count("How does the story begin?") == 3
    assert list(typed) == ["never read"]


def test_generate_streams(here, monkeypatch):
    """The text is on the screen before the next token is drawn."""
    written: list[str] = []
    pieces: list[int] = []

    class Screen(io.StringIO):
        def flush(self) -> None:
            written.append(self.getvalue())

    monkeypatch.setattr("sys.stdout", Screen())
    in_order = module._in_order

    def watched(steps):
        for story, piece in in_order(steps):
            pieces.append(len(written))
            yield story, piece

    monkeypatch.setattr(module, "_in_order", watched)
    assert main(["generate", "One", "--seed", "3", "--length", "10"]) == 0
    assert pieces == list(range(10))
    assert written[-1].startswith(written[4]) and len(written[4]) > len("One")


@contextmanager
def started(**options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Start it, with more to write than a pipe holds. No process is left, nor awaited for more than two minutes."""
    command = [sys.executable, *"-m tinystories generate Once --length 9999 --seed 3 -n 200".split()]
    with subprocess.Popen(command, **options) as process:
        guard = threading.Timer(120, process.kill)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.kill()


def test_generate_in_a_real_terminal_and_pipe(here):
    """Ctrl-C ends quietly with 130, a closed pipe with 141."""
    main_end, its_end = pty.openpty()
    terminal = {"stdin": its_end, "stdout": its_end, "stderr": its_end, "start_new_session": True}
    with started(**terminal) as stopped, started(stdout=subprocess.PIPE, stderr=subprocess.PIPE) as piped:
        os.close(its_end)
        seen = b""
        while b"Once" not in seen:
            seen += os.read(main_end, 1024)
        stopped.send_signal(signal.SIGINT)
        with suppress(OSError):  # once the terminal is closed; where nobody read, it would hold what writes to it
            while os.read(main_end, 1024):
                pass
        assert stopped.wait() == 130
        os.close(main_end)
        assert piped.stdout and piped.stderr
        assert piped.stdout.read(4) == b"Once"
        piped.stdout.close()
        assert piped.wait() == 141 and piped.stderr.read() == b""
