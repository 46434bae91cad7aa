"""Measures of stories that need nothing but their text: repetition, variety, names, pronouns.

A word is a run of letters with the apostrophes in it, in small letters, as UTF-8. Where there is nothing to measure (no
words, no names) the figure is None. "Mean over blocks": a share of different things falls with the length of a text, so
the stories of a group follow each other and are cut into blocks of one size, and groups of any size compare.
"""

import gzip
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinystories.sources.storygen.cast import PRONOUNS
from tinystories.sources.storygen.creatures import ELDERS
from tinystories.sources.storygen.names import BOYS, FRIENDS, GIRLS, HEROES

STORY_END = b"\x01"  # a word that no story has, for `words_of` of several
BLOCK_WORDS = 5_000
BLOCK_BYTES = 25_000

_KEPT = bytes(code if code >= 128 or chr(code).isalpha() or code in (1, ord("'")) else 32 for code in range(256))
_CASED_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_PROPER_END = re.compile(r"[.!?…。！？][\"'”’»)\]*_]*\s*\Z")
_ROLES = (frozenset(HEROES), frozenset(FRIENDS))
_SEX_OF_NAME = {**dict.fromkeys(GIRLS, "she"), **dict.fromkeys(BOYS, "he")}
_SEX_OF_PRONOUN = {form: sex for sex, forms in PRONOUNS.items() for form in forms.values()} | {"hers": "she"}
# Of the generator its own, and the commonest others of TinyStories.
_WOMEN = "girl girls woman lady mrs miss ms mommy mum queen princess sister aunt daughter wife"
_MEN = "boy boys man mr sir daddy king prince brother uncle son husband"
_SEX_OF_NOUN = {
    **{row["call"].lower(): row["he"] for row in ELDERS},
    **dict.fromkeys(_WOMEN.split(), "she"),
    **dict.fromkeys(_MEN.split(), "he"),
}


def words_of(text: str) -> list[bytes]:
    """The words of a text. By operations on bytes: a regular expression takes ten times as long."""
    data = f" {text.lower()} ".replace("’", "'").encode().translate(_KEPT)
    data = re.sub(rb"\xe2\x80[\x80-\xbf]", b" ", data)  # quotation marks, dashes and dots beyond ASCII
    return data.replace(b" '", b" ").replace(b"' ", b" ").split()


def ends_properly(text: str) -> bool:
    """Whether the last thing in a text is a mark that ends a sentence, perhaps with quotation marks after it."""
    return _PROPER_END.search(text) is not None


def share(truths: Iterable[bool]) -> float | None:
    """How many of them are true, from 0 to 1. None of none."""
    found = list(truths)
    return sum(found) / len(found) if found else None


def repetition(words: Sequence[bytes], n: int = 4) -> float | None:
    """seq-rep-n: 1 - different / all n-grams of one text (Welleck et al. 2019). None where it has no n-gram."""
    grams = _ngrams(words, n)
    return 1 - len(set(grams)) / len(grams) if grams else None


def distinct(words: Sequence[bytes], n: int = 3, block: int = BLOCK_WORDS) -> float | None:
    """distinct-n: different / all n-grams (Li et al. 2016), mean over blocks of words. None without any."""
    return _mean_of_blocks(words, block, lambda part: len(set(_ngrams(part, n))) / len(part[n - 1 :]), n)


def gzip_ratio(text: bytes, block: int = BLOCK_BYTES) -> float | None:
    """Compression ratio: bytes / bytes after gzip (Shaib et al. 2024), mean over blocks. More is more repetitive."""
    return _mean_of_blocks(text, block, lambda part: len(part) / len(gzip.compress(part, mtime=0)), 1)


def kept_names(text: str, generated: bool) -> float | None:
    """Which share of the names in a story are those that it began with. None where it has none that is known.

    `generated`: by the project's generator, whose stories have one hero and at most one friend, each from a list of its
    own: the share of the commonest hero and the commonest friend among all names, 1 of every real one. In other
    stories: of the names in the second half, the share that the first half has too.
    """
    words = [re.sub(r"['’]s?\Z", "", word) for word in _CASED_WORD.findall(text)]
    names = [word for word in words if word in _SEX_OF_NAME]
    if generated:
        counts = Counter(names)
        kept = sum(max((counts[name] for name in counts.keys() & role), default=0) for role in _ROLES)
        return kept / len(names) if names else None
    half = len(words) // 2
    first = set(words[:half])
    return mean(float(word in first) for word in words[half:] if word in _SEX_OF_NAME)


def pronouns_fit(text: str) -> float | None:
    """1 if for each `he` and `she` somebody of that sex is in the story, a known name or a noun such as `mom`, else 0.

    None where it has no known name or no such pronoun.
    """
    words = [re.sub(r"['’].*", "", word) for word in _CASED_WORD.findall(text)]
    named = {_SEX_OF_NAME[word] for word in words if word in _SEX_OF_NAME}
    small = {word.lower() for word in words}
    pronouns = {_SEX_OF_PRONOUN[word] for word in small & _SEX_OF_PRONOUN.keys()}
    if not named or not pronouns:
        return None
    return float(pronouns <= named | {_SEX_OF_NOUN[word] for word in small & _SEX_OF_NOUN.keys()})


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there. None of none."""
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None


def _ngrams(words: Sequence[bytes], n: int) -> list[tuple[bytes, ...]]:
    return list(zip(*(words[first:] for first in range(n)), strict=False))


def _mean_of_blocks(text: Sequence[Any], block: int, measure: Callable[[Any], float], shortest: int) -> float | None:
    """Of whole blocks; a text that is shorter than one is one."""
    if len(text) < shortest:
        return None
    whole = range(0, len(text) - block + 1, block)
    return statistics.fmean(measure(text[first : first + block]) for first in whole) if whole else measure(text)
