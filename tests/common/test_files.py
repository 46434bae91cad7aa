"""Writing files: whole or not at all, and their checksums."""

import hashlib
import math

import pytest

from tinystories.common.files import atomic_write, checksum, sha256_of, write_json, write_text
from tinystories.common.reading import read_json
from tinystories.common.signals import Stopped


def test_atomic_write_appears_when_whole(tmp_path):
    path = tmp_path / "new" / "directory" / "file.txt"
    with atomic_write(path) as file:
        file.write(b"some")
        assert not path.exists()
    assert path.read_bytes() == b"some"
    assert [found.name for found in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError(), KeyboardInterrupt(), Stopped(15, immediate=True)])
@pytest.mark.parametrize("before", [None, b"old"])
def test_atomic_write_error_keeps_old_file(tmp_path, before, error):
    path = tmp_path / "file.txt"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(BaseException) as caught, atomic_write(path) as file:
        file.write(b"new")
        raise error
    assert caught.value is error
    assert {found.name: found.read_bytes() for found in tmp_path.iterdir()} == ({"file.txt": before} if before else {})


def test_write_text_utf8_plain_line_ends(tmp_path):
    write_text(tmp_path / "a.txt", "Zoë\n🐉\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "Zoë\n🐉\r\n".encode()


def test_write_json_keeps_order(tmp_path):
    value = {"z": [1, 2.5, None], "a": {"Zoë": "🐉\n"}}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "z": [') and text.endswith("}\n") and "Zoë" in text
    assert list(read_json(tmp_path / "a.json").items()) == list(value.items())


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_write_json_refuses_non_finite(tmp_path, number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": number})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "same"),
    [({"b": 1, "a": [1.5, None]}, True), ({"a": [1.5, None], "b": 1}, True), ({"a": [1.5], "b": 1}, False)],
)
def test_checksum_of_value_and_file(tmp_path, value, same):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abd")
    first = checksum({"a": [1.5, None], "b": 1}, tmp_path / "a")
    assert (checksum(value, tmp_path / "a") == first) == same
    assert checksum(value, tmp_path / "b") != first


@pytest.mark.parametrize("data", [b"", b"abc" * 1_000_000])
def test_sha256_of(tmp_path, data):
    (tmp_path / "a").write_bytes(data)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(data).hexdigest()
