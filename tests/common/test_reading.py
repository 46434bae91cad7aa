"""Reading JSON and CSV back: what comes back, and what is refused in one line."""

import json

import pytest

from tinystories.common.errors import UserError
from tinystories.common.reading import read_csv, read_json


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
def test_read_json_refuses_in_one_line(tmp_path, data, words):
    path = tmp_path / "a.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_json(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400


def test_read_json_limits(tmp_path):
    text = (
        '{"a": '
        + "[" * 18
        + "]" * 18
        + ', "b": [18446744073709551615, -9223372036854775808, 1e308], "c": "\\ud83d\\udc09"}'
    )
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == json.loads(text)


def test_read_json_never_reads_too_large_file(tmp_path):
    with (tmp_path / "a.json").open("wb") as file:
        file.truncate(10**11)  # a hole, which takes no room
    with pytest.raises(UserError, match="100,000,000,000 bytes; a file of its kind has less than 100,000,000"):
        read_json(tmp_path / "a.json")


def test_read_csv_any_text(tmp_path):
    (tmp_path / "a.csv").write_bytes('a,b c\n1,"x,\n""y"\n,Zoë\n'.encode())
    assert read_csv(tmp_path / "a.csv", "train") == [{"a": "1", "b c": 'x,\n"y'}, {"a": "", "b c": "Zoë"}]
    (tmp_path / "a.csv").write_bytes(b"")
    assert read_csv(tmp_path / "a.csv", "train") == []


def test_read_json_directory(tmp_path):
    with pytest.raises(UserError, match="not readable as JSON"):
        read_json(tmp_path)
