"""`tinystories score`: the table, JSON, tokens in colours, files that hold nothing."""

import io
import json
import re

import pytest

import tinystories
from tinystories.cli.main import main

TEXT = "Lily saw Zoë 🐉.\nShe went.\n<|endoftext|>\nOne day\n<|endoftext|>\n"


@pytest.fixture
def run(here, capsys):
    (here / "two.txt").write_text(TEXT, encoding="utf-8")
    (here / "one.txt").write_text("A \x1b[2Jtree", encoding="utf-8")

    def run(*arguments: str, status: int = 0) -> list[str]:
        assert main(["score", *arguments]) == status
        out, err = capsys.readouterr()
        return str(err if status else out).splitlines()

    return run


@pytest.fixture
def expected(checkpoint):
    return tinystories.load(checkpoint).score(TEXT)


def figures(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in line.split()[1:6]]


def test_score_table(run, expected):
    head, first, second, total = run("two.txt")
    assert head.split() == ["story", "tokens", "bytes", "loss", "PPL", "bits/byte", "begins"]
    for line, score in zip((first, second, total), (*expected.stories, expected), strict=True):
        found = [score.tokens, score.bytes, score.loss, score.perplexity, score.bits_per_byte]
        assert figures(line) == pytest.approx(found, abs=6e-3)
    assert first.endswith("Lily saw Zoë 🐉.\\nShe went.") and second.endswith("One day")
    assert [line.split()[0] for line in (first, second, total)] == ["1", "2", "all"]


def test_score_escapes_control_characters(run):
    _, line = run("one.txt")
    assert line.endswith("A \\x1b[2Jtree")


def test_score_several_files(run):
    lines = run("one.txt", "two.txt")
    assert [lines[0], lines[3]] == ["one.txt:", "two.txt:"] and lines[4:] == run("two.txt")


def test_score_json(run, expected):
    *stories, total = map(json.loads, run("--json", "--tokens", "two.txt"))
    for row, score in zip(stories, expected.stories, strict=True):
        assert row["loss"] == pytest.approx(score.loss, abs=1e-5)
        assert [text for text, _ in row["token_bits"]] == [text for text, _ in score.token_bits]
    assert total == {
        "file": "two.txt",
        "stories": 2,
        "tokens": expected.tokens,
        "bytes": expected.bytes,
        "loss": pytest.approx(expected.loss, abs=1e-5),
        "perplexity": pytest.approx(expected.perplexity, rel=1e-5),
        "bits_per_byte": pytest.approx(expected.bits_per_byte, abs=1e-5),
    }


def test_score_tokens_plainly(run, expected):
    *lines, head, total = run("--tokens", "two.txt")
    tokens = [token for story in expected.stories for token in story.token_bits]
    for line, (text, bits) in zip(lines, tokens, strict=True):
        assert float(line[:8]) == pytest.approx(bits, abs=1e-2) and json.loads(line[10:]) == text
    assert head.split()[0] == "story" and total.split()[0] == "all"


def test_score_tokens_in_colours(run, monkeypatch):
    """The text is whole without the colours, and nothing else in it is a command to the terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    run("--tokens", "one.txt")
    out = screen.getvalue()
    assert re.sub("\x1b\\[[0-9;]*m", "", out).startswith("A \\x1b[2Jtree<|endoftext|>\nbits of a token:  up to 1 ")
    assert "\x1b[38;5;16;48;5;" in out
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", screen := Terminal())
    run("--tokens", "one.txt")
    assert "\x1b" not in screen.getvalue()


def test_score_standard_input(run, here, monkeypatch):
    expected = run("two.txt")
    for arguments in ((), ("-",)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        assert run(*arguments) == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert run(status=1)[0].startswith("error: standard input: not UTF-8 at byte 2")


def test_score_refuses(run, here):
    (here / "empty.txt").write_text(" \n<|endoftext|>\n")
    (here / "latin.txt").write_bytes("Zoë".encode("latin-1"))
    assert run("nowhere.txt", status=1) == ["error: nowhere.txt: No such file or directory"]
    assert run("models", status=1) == ["error: models: Is a directory"]
    assert run("empty.txt", status=1) == ["error: empty.txt: no text to score"]
    assert run("latin.txt", status=1)[0].startswith("error: latin.txt: not UTF-8 at byte 2; ")
    assert run("one.txt", "-m", "nowhere", status=1)[0].startswith("error: nowhere: no such directory")
