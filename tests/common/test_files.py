"""Files whole or not at all, lines for people, stages that end in order."""

import hashlib
import json
import math

import pytest

from tinystories.common import console
from tinystories.common.console import format_duration, info, progress, warn
from tinystories.common.errors import UserError
from tinystories.common.files import atomic_write, checksum, sha256_of, write_json, write_text
from tinystories.common.reading import read_csv, read_json
from tinystories.common.signals import Stopped


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "directory" / "file.txt"
    with atomic_write(path) as file:
        file.write(b"some")
        assert not path.exists()
    assert path.read_bytes() == b"some"
    assert [found.name for found in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), Stopped(15, immediate=True)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_an_error_leaves_what_was_there(tmp_path, before, error):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(BaseException) as caught, atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert caught.value is error
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == ({"file.txt": before} if before else {})


def test_text_is_utf8_with_plain_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "Zoë\n🐉\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zoë\n🐉\r\n".encode()


def test_json_comes_back_in_its_order(tmp_path):
    value = {"z": [1, 2.5, None], "a": {"Zoë": "🐉\n"}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "z": [') and text.endswith("}\n") and "Zoë" in text
    assert list(read_json(tmp_path / "a.json").items()) == list(value.items())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused_and_nothing_is_written(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, "no such file; run the stage that writes it"),
        (b"", "not readable as JSON"),
        (b'{"a": ', "not readable as JSON"),
        (b"\xff\xfe", "not readable as JSON"),
        (b"[]", "found a JSON list, expected an object"),
        (b"5", "found a JSON int, expected an object"),
        (b"null", "found a JSON NoneType, expected an object"),
        (b'{"a": 1, "b": {"c": 1, "c": 1}}', "'c' stands twice in one object"),
        (b'{"a": NaN}', "NaN is no finite number"),
        (b'{"a": [-Infinity]}', "-Infinity is no finite number"),
        (b'{"a": 1e999}', "1e999 is no finite number"),
        (b'{"a": 18446744073709551616}', "18446744073709551616 has more than 64 bits"),
        (b'{"a": ' + b"9" * 9_000 + b"}", "has more than 64 bits"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"\\udfff": 1}', "surrogates not allowed"),
        (b"[" * 100_000, "recursion"),
        (b'{"a": ' + b"[" * 20 + b"]" * 20 + b"}", "nested too deeply"),
        (b'{"\x1b[31m\\u001b' + b"x" * 9_000 + b'": 1, ' + b"}", "not readable as JSON"),
    ],
)
def test_json_that_is_no_object_is_refused_in_one_line(tmp_path, data, words):
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_json_at_the_edge_of_what_is_taken(tmp_path):
    text = (
        '{"a": '
        + "[" * 18
        + "]" * 18
        + ', "b": [18446744073709551615, -9223372036854775808, 1e308], "c": "\\ud83d\\udc09"}'
    )
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == json.loads(text)


def test_json_that_is_too_large_is_not_even_read(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(10**11)  # a hole, which takes no room
    with pytest.raises(UserError, match="100,000,000,000 bytes; a file of its kind has less than 100,000,000"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("value", "same"),
    [({"b": 1, "a": [1.5, None]}, True), ({"a": [1.5, None], "b": 1}, True), ({"a": [1.5], "b": 1}, False)],
)
def test_a_checksum_is_of_the_value_and_of_the_file(tmp_path, value, same):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abd")
    first = checksum({"a": [1.5, None], "b": 1}, tmp_path / "a")
    assert (checksum(value, tmp_path / "a") == first) == same
    assert checksum(value, tmp_path / "b") != first


def test_a_table_comes_back(tmp_path):
    (tmp_path / "a.csv").write_bytes('a,b c\n1,"x,\n""y"\n,Zoë\n'.encode())
    assert read_csv(tmp_path / "a.csv", "train") == [{"a": "1", "b c": 'x,\n"y'}, {"a": "", "b c": "Zoë"}]
    (tmp_path / "a.csv").write_bytes(b"")
    assert read_csv(tmp_path / "a.csv", "train") == []


def test_a_directory_is_no_json(tmp_path):
    with pytest.raises(UserError, match="not readable as JSON"):
        read_json(tmp_path)


@pytest.mark.parametrize("data", [b"", b"abc" * 1_000_000])
def test_sha256_of_a_file(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    "words",
    [
        "a [bold] word",
        "x" * 300,
        "http://user@host:1/[a]",
        "a :smile: here",
    ],
)
def test_words_are_printed_as_they_are(capsys, words):
    info(words)
    warn(words)
    assert capsys.readouterr().out == f"{words}\nwarning: {words}\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"), (3599.7, "1:00:00"), (3765, "1:02:45")],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_a_log_has_a_line_now_and_then(capsys, monkeypatch):
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


def test_a_slow_first_step_does_not_count_for_the_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("tinystories.common.console.time.monotonic", lambda: now[0])
    with progress("Training", total=100) as bar:
        for seconds in (60, *[1] * 20):
            now[0] += seconds
            bar.advance(1)
    assert capsys.readouterr().out.splitlines() == ["Training, 1%", "Training, 16%, 1:24 left"]


def test_progress_without_a_total_names_no_share(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0)
    with progress("Reading") as bar:
        bar.advance(5, "5 stories")
        bar.advance(5)
    assert capsys.readouterr().out == "Reading, 5 stories\nReading, 5 stories\n"
