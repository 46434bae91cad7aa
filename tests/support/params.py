"""params.yaml with one thing changed, and how it is read or refused."""

import re
from pathlib import Path

import pytest

from tests.support.repository import PARAMS
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params

COMMITTED = PARAMS.read_text(encoding="utf-8")
AFTER_LAST = f"line {len(COMMITTED.splitlines()) + 1}, column "


def lines_by_key(text: str) -> dict[str, int]:
    """The number of the line on which each key stands, by its dotted name."""
    found: dict[str, int] = {}
    sections: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        if match := re.match(r"( *)(\w+):", line):
            indent = len(match[1])
            sections = [(depth, name) for depth, name in sections if depth < indent] + [(indent, match[2])]
            found[".".join(name for _, name in sections)] = number
    return found


def put(key: str, value: str) -> str:
    """The committed file with this text as the value of `key`."""
    lines = COMMITTED.splitlines()
    number = lines_by_key(COMMITTED)[key]
    lines[number] = lines[number].split(":")[0] + ": " + value
    indent = " " * (len(lines[number]) - len(lines[number].lstrip()))
    following = number + 1
    while following < len(lines) and lines[following].startswith((indent + " ", indent + "- ")):
        following += 1  # what stood under the key goes too
    return "\n".join([*lines[: number + 1], *lines[following:]]) + "\n"


def without(key: str) -> str:
    marked = put(key, "GONE")
    return "".join(line for line in marked.splitlines(keepends=True) if not line.endswith("GONE\n"))


def renamed(key: str, name: str) -> str:
    lines = COMMITTED.splitlines(keepends=True)
    number = lines_by_key(COMMITTED)[key]
    lines[number] = lines[number].replace(key.split(".")[-1] + ":", name + ":", 1)
    return "".join(lines)


def load(tmp_path: Path, text: str | bytes) -> Params:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_params(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    """The message of the refusal, without the file's name, which it has to begin with."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(f"{tmp_path / 'params.yaml'}: ")
    return message.removeprefix(f"{tmp_path / 'params.yaml'}: ")


def line_of(key: str, further: int = 0) -> str:
    return f"line {lines_by_key(COMMITTED)[key] + 1 + further}, column "
