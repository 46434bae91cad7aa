"""Messages and progress, as a log shows them."""

import pytest
from rich.console import Console

from tinystories.common import console
from tinystories.common.console import format_duration, info, plural, progress, warn


@pytest.mark.parametrize(
    "words",
    [
        "a [bold] word",
        "x" * 300,
        "http://user@host:1/[a]",
        "a :smile: here",
    ],
)
def test_info_and_warn_print_verbatim(capsys, words):
    info(words)
    warn(words)
    assert capsys.readouterr().out == f"{words}\nwarning: {words}\n"


def test_info_breaks_lines_between_words_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(console, "_console", Console(force_terminal=True, width=20, soft_wrap=True, color_system=None))
    table = f"| {'a' * 30} |"
    info(f"one two three four five six\n{table}\nat {'x' * 30}/file now")
    assert capsys.readouterr().out == f"one two three four\nfive six\n{table}\nat\n{'x' * 30}/file\nnow\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3599.7, "1:00:00"), (3765, "1:02:45")],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "story", "1 story"), (0, "story", "0 stories"), (2000, "entry", "2,000 entries"), (2, "token", "2 tokens")],
)
def test_plural(count, noun, text):
    assert plural(count, noun) == text


def test_progress_logs_now_and_then(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tinystories.common.console.time.monotonic", lambda: now[0])
    with progress("Training", total=100, done=20) as bar:
        for _ in range(60):
            now[0] += 1
            bar.advance(1, f"loss {now[0]:.0f}")
    # 20 were done before: 15 steps in 15 seconds leave 65 of the 100.
    assert capsys.readouterr().out.splitlines() == [
        "Training, 35%, 1:05 left, loss 115",
        "Training, 50%, 50 s left, loss 130",
        "Training, 65%, 35 s left, loss 145",
        "Training, 80%, 20 s left, loss 160",
    ]


def test_progress_time_left_without_slow_first_step(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tinystories.common.console.time.monotonic", lambda: now[0])
    with progress("Training", total=100) as bar:
        for seconds in (60, *[1] * 20):
            now[0] += seconds
            bar.advance(1)
    assert capsys.readouterr().out.splitlines() == ["Training, 1%", "Training, 16%, 1:24 left"]


def test_progress_without_total(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0)
    with progress("Reading") as bar:
        bar.advance(5, "5 stories")
        bar.advance(5)
    assert capsys.readouterr().out == "Reading, 5 stories\nReading, 5 stories\n"
