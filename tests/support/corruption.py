"""Corrupted files for the fuzz tests: bytes flipped, cut, moved and inserted, and JSON with other values."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

# Bytes that mean something to one reader or another.
PIECES = st.sampled_from(
    [b"\0", b'"', b"'", b"{", b"}", b"[" * 60, b"[" * 20_000, b"]", b":", b": ", b",", b"\n", b"\r\n", b"\n\n",
     b"  ", b"\t", b"#", b"&a ", b"*a", b"!", b"!!int ", b"%", b"@", b"`", b"|", b">", b"? ", b"- ", b"---\n",
     b"...", b"<<: ", b"~", b"=", b"-", b"+", b"_", b".", b"e", b"e9", b"E+", b"0", b"00", b"0x", b"0o", b"9" * 40,
     b"9" * 5_000, b"1e999", b"1:30", b"1_0", b"NaN", b".nan", b".inf", b"-Infinity", b"null", b"true", b"no", b"on",
     b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1b[31m", b"\\ud800",
     b"\\u0000", b"<|endoftext|>"]
)  # fmt: skip
RAW_VALUES = st.sampled_from(
    ["null", "true", "false", "0", "-1", "1", "2", "0.5", "-0.0", "1e308", "1e-320", "1e999", "-1e999", "NaN",
     "Infinity", "9007199254740993", "9223372036854775808", "18446744073709551616", "9" * 400, "9" * 5_000, '""',
     '"x"', '"-1"', '"\\ud800"', '"\\u0000"', '"\\u001b[31m"', '"\\u2028"', '"' + "x" * 5_000 + '"', '"../../x"',
     "[]", "{}", "[null]", '{"a": 1, "a": 2}', "[" * 15 + "]" * 15, "[" * 900 + "]" * 900, "[" * 9_000,
     '"2026-01-01T00:00:00"', '"0001-01-01T00:00:00"', '"9999-12-31T23:59:59+00:00"', "'", ""]
)  # fmt: skip


@st.composite
def corrupted(draw: Callable[[Any], Any], whole: bytes) -> bytes:
    """Corrupt `whole` in one to four ways."""
    data = whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(start + draw(st.integers(0, 40)), len(data))
        match draw(st.sampled_from(["flip", "flip", "put in", "put in", "replace", "cut", "drop", "double", "move"])):
            case "flip":
                flipped = bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[start : start + 1])
                data = data[:start] + flipped + data[start + 1 :]
            case "put in":
                data = data[:start] + draw(PIECES | st.binary(max_size=8)) + data[start:]
            case "replace":
                data = data[:start] + draw(PIECES) + data[end:]
            case "cut":
                data = data[:start] if draw(st.booleans()) else data[start:]
            case "drop":
                data = data[:start] + data[end:]
            case "double":
                data = data[:end] + data[start:end] * draw(st.integers(1, 3)) + data[end:]
            case "move":
                place = draw(st.integers(0, start))
                data = data[:place] + data[start:end] + data[place:start] + data[end:]
    return data


@st.composite
def corrupted_json(draw: Callable[[Any], Any], whole: bytes) -> bytes:
    """Change, delete, add or repeat one to three values of JSON; or corrupt any bytes of it."""
    if draw(st.integers(0, 3)) == 0:
        return draw(corrupted(whole))  # type: ignore[no-any-return]
    value, replaced = json.loads(whole), {}
    for number in range(draw(st.integers(1, 3))):
        places = _places(value)
        holder, key = draw(st.sampled_from(places))
        mark = f"@{number}@"
        match draw(st.sampled_from(["other", "other", "near", "gone", "more", "twice"])):
            case "other":
                holder[key] = mark
                replaced[f'"{mark}"'] = draw(RAW_VALUES)
            case "near":
                holder[key] = _near(holder[key], draw(st.sampled_from([-1, 1, 2])))
            case "gone":
                del holder[key]
            case "more" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["more", "", "sha256", "tokens"]))] = draw(st.integers(0, 3))
            case "twice" if isinstance(holder, dict):
                holder[mark] = _near(holder[key], 1)
                replaced[f'"{mark}"'] = json.dumps(key)
    text = json.dumps(value)
    for mark, raw in replaced.items():
        text = text.replace(mark, raw)
    return text.encode()


def _near(value: Any, amount: int) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + amount
    return value[::-1] if isinstance(value, str) else [value]


def _places(value: Any) -> list[tuple[Any, Any]]:
    """List every value below `value` as its container and key; only the first ones of long containers."""
    keys = list(value)[:40] if isinstance(value, dict) else range(min(len(value), 5)) if isinstance(value, list) else []
    found = [(value, key) for key in keys]
    return found + [place for key in keys for place in _places(value[key])] or [({"": value}, "")]
