"""Whether `gigatoken` may do the work of `tokenizers`, many times as fast: decided here, and nowhere else.

`tokenizers` defines what is right. `gigatoken` is used for text whose characters it splits as `tokenizers` does: its
tables are of another version of Unicode. What it gives is compared with `tokenizers` on a sample of every block.
"""

import re
from functools import cache
from importlib.metadata import version
from types import ModuleType

from tokenizers import pre_tokenizers

from tinystories.common.console import warn
from tinystories.common.errors import UserError, shorten

SAMPLE_BYTES = 2**12  # of each block that `tokenizers` does too
MAX_SAMPLE_BYTES = 2**16  # a longer piece without a place to cut is not compared
FIRST_SAMPLE_BYTES = 2**15  # of a file's first block

_ASCII = bytes(range(128))
_WORD_END = re.compile(rb"[!-~](?=[ \n])")
_STEP = 0.618033988749895  # the golden ratio's: multiples of it, without their whole part, spread evenly

_split = pre_tokenizers.ByteLevel(add_prefix_space=False)
_is_alike: dict[str, bool] = {}  # by character
_warned: set[str] = set()


@cache
def gigatoken() -> ModuleType | None:
    """Import gigatoken. None, with one warning, where it is missing or does not run here."""
    try:
        import gigatoken.gigatoken_rs

        return gigatoken
    except Exception as error:  # a missing package, or a shared library made for another system
        fall_back(error)
        return None


def fall_back(error: BaseException) -> None:
    """Say, once, that `tokenizers` takes over; errors other than gigatoken's own are raised again.

    A panic in Rust is a BaseException.
    """
    if isinstance(error, UserError) or not (isinstance(error, Exception) or type(error).__name__ == "PanicException"):
        raise error
    _warn_once("failure", f"gigatoken does not work ({shorten(str(error), 100)}): tokenizers does its work, slower")


def _warn_once(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        warn(message)


def is_split_alike(data: bytes) -> bool:
    """Whether both libraries know all characters of this text as the same kind: letter, digit, space or other.

    The pattern that cuts text into words knows a character beyond ASCII by its kind alone. Each is tried once.
    """
    if data.isascii():
        return True
    characters = set(data.translate(None, _ASCII).decode())
    for new in characters - _is_alike.keys():
        _is_alike[new] = _is_character_alike(new)
    odd = [character for character in characters if not _is_alike[character]]
    if odd:
        character = f"the character U+{ord(min(odd)):04X}"
        _warn_once("character", f"gigatoken and tokenizers differ over {character}: tokenizers does such parts, slower")
    return not odd


def _is_character_alike(c: str) -> bool:
    from gigatoken import pretokenizer

    text = f"a{c}a 1{c}1 .{c}. {c} {c}{c}  {c}'s"
    words = [text[start:end].encode() for _, (start, end) in _split.pre_tokenize_str(text)]
    return list(pretokenizer(text.encode())) == words


def sample(data: bytes, number: int) -> tuple[int, int] | None:
    """Choose a piece of block `number`, from its start or the end of a word to the end of another: (start, end).

    It has the words and ids that it has in the block (`word_ends`). None where words do not end for too long.
    """
    size = FIRST_SAMPLE_BYTES if number == 0 else SAMPLE_BYTES
    first = int(len(data) * (number * _STEP % 1))
    start = found.end() if first and (found := _WORD_END.search(data, first)) else 0
    end = found.end() if (found := _WORD_END.search(data, start + size)) else len(data)
    return (start, end) if 0 < end - start <= size + MAX_SAMPLE_BYTES else None


def word_ends(data: bytes, size: int) -> list[int]:
    """Find places at least `size` bytes apart where text may be cut; the last is the end of the text.

    Where a space or newline follows a visible ASCII character, GPT-2's pattern always cuts: none of its alternatives
    takes whitespace after something else. What it takes on one side does not depend on the other side, and merges never
    cross its cuts. `<|endoftext|>`, which is taken out before, holds no such place.
    """
    ends: list[int] = []
    end = 0
    while found := _WORD_END.search(data, end + size):
        ends.append(end := found.end())
    return [*ends, len(data)]


def refuse(what: str, text: bytes) -> UserError:
    """Make the error for a difference between the two libraries."""
    versions = f"gigatoken {version('gigatoken')} and tokenizers {version('tokenizers')}"
    return UserError(
        f"{versions} give different {what} for {shorten(repr(text.decode(errors='replace')), 100)}; "
        "without gigatoken (pip uninstall gigatoken) tokenizers does the work, several times as slow"
    )
