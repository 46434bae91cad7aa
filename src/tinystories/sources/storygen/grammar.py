"""The template language: English inflection, word tables, and plots compiled into pieces.

A plot is plain text::

    {H} could not find {his} {thing}.          one way to say a beat
    "Oh no!" cried {H}. "My {thing} is [gone|lost]!"   another way

    --                                          a new paragraph starts here
    ?twist !bad                                 only if twist was drawn and bad was not
    ...

* a blank line ends a beat; each line of a beat is one way to say it; `~` says nothing;
* `[a|b]` is a choice inside a line (not nested);
* a line that begins with the name of hero or friend is left out where it would begin a paragraph: after a line break a
  name is other tokens than after a space, and a small model takes long to find that they are one (docs/log.md);
* `@name` includes the beats of that name from `shared.py`, under the flags of the line above it if any;
* `{role}` is a word drawn from the table of that role, the same all through the story.
  `{Role}` has a capital, `{a role}` / `{A role}` an article, `{role.s}` is the plural,
  `{role.ed}` / `{role.ing}` the past and the -ing form, `{role.column}` another column of the row.

All of that is compiled at the first use of a plot. To write a story is then only to choose tuples of pieces, and one
`str.join`, which is why it is fast.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

Row = dict[str, str]
Pieces = tuple[str, ...]
Beat = tuple[tuple[Pieces, ...], ...]
"""The ways to say one beat, each with its inner choices multiplied out."""

SLOT = re.compile(r"(\{[^{}]+\})")
_SLOT_PARTS = re.compile(r"\{(?:([aA]) )?([A-Za-z]+)(\d?)(?:\.(\w+))?\}")
_NAMES = ("{H}", "{F}")
_CHOICE = re.compile(r"\[([^\[\]]*)\]")

_PLURALS = {
    "mouse": "mice", "goose": "geese", "child": "children", "foot": "feet", "tooth": "teeth", "sheep": "sheep",
    "fish": "fish", "leaf": "leaves", "scarf": "scarves", "loaf": "loaves", "wolf": "wolves", "deer": "deer",
    "calf": "calves", "shelf": "shelves", "knife": "knives", "man": "men", "woman": "women", "piano": "pianos",
}  # fmt: skip
_PASTS = {
    "be": "was", "begin": "began", "blow": "blew", "bring": "brought", "build": "built", "buy": "bought",
    "catch": "caught", "come": "came", "dig": "dug", "draw": "drew", "drink": "drank", "drive": "drove", "eat": "ate",
    "fall": "fell", "feed": "fed", "feel": "felt", "find": "found", "fly": "flew", "get": "got", "give": "gave",
    "go": "went", "grow": "grew", "hide": "hid", "hold": "held", "keep": "kept", "leap": "leaped", "lie": "lay",
    "make": "made", "put": "put", "read": "read", "ride": "rode", "ring": "rang", "run": "ran", "see": "saw",
    "sew": "sewed", "shake": "shook", "sing": "sang", "sit": "sat", "sleep": "slept", "slide": "slid",
    "spin": "spun", "sweep": "swept", "swim": "swam", "swing": "swung", "take": "took", "tell": "told",
    "throw": "threw", "wear": "wore", "weave": "wove", "write": "wrote", "stand": "stood", "think": "thought",
    "set": "set", "shoot": "shot", "tie": "tied",
}  # fmt: skip
_DOUBLING = {
    "skip", "hop", "hum", "dig", "run", "swim", "spin", "sit", "get", "put", "knit", "clap", "tap", "plan", "trot",
    "chat", "pat", "hug", "drum", "jog", "nap", "set", "stir", "flip", "strum",
}  # fmt: skip
_VOWEL_SOUND = re.compile(r"(?!uni|use|one\b|euro|ukulele)(?:[aeiou]|hour|honest)", re.IGNORECASE)


def with_article(phrase: str) -> str:
    """Put the indefinite article before `phrase`, by its first sound: `an owl`, `a unicorn`."""
    return ("an " if _VOWEL_SOUND.match(phrase) else "a ") + phrase


def plural(noun: str) -> str:
    """Return the plural of a noun or of a phrase that ends in one: `toy boat` gives `toy boats`."""
    head, _, last = noun.rpartition(" ")
    if last in _PLURALS:
        last = _PLURALS[last]
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2:-1] not in "aeiou":
        last = last[:-1] + "ies"
    else:
        last += "s"
    return f"{head} {last}" if head else last


def past(verb: str) -> str:
    """Return the simple past of a verb phrase, whose first word is the verb: `fly kites` gives `flew kites`."""
    first, space, rest = verb.partition(" ")
    if first in _PASTS:
        first = _PASTS[first]
    elif first.endswith("e"):
        first += "d"
    elif first.endswith("y") and first[-2] not in "aeiou":
        first = first[:-1] + "ied"
    else:
        first += (first[-1] if first in _DOUBLING else "") + "ed"
    return first + space + rest


def gerund(verb: str) -> str:
    """Return the -ing form of a verb phrase: `fly kites` gives `flying kites`."""
    first, space, rest = verb.partition(" ")
    if first.endswith("ie"):
        first = first[:-2] + "ying"
    elif first.endswith("e") and not first.endswith(("ee", "be")):
        first = first[:-1] + "ing"
    else:
        first += (first[-1] if first in _DOUBLING else "") + "ing"
    return first + space + rest


def capital(text: str) -> str:
    """Capitalize the first letter, and leave the rest as it is."""
    return text[:1].upper() + text[1:]


def table(header: str, text: str) -> tuple[Row, ...]:
    """Parse a word table: a row on each line, cells separated by `|`. The column `_` is the word itself.

    A cell `red/blue` stands for two rows, so that a noun can list the adjectives that fit it.
    Errors: ValueError for a line with another number of cells than the header.
    """
    columns = [name.strip() for name in header.split("|")]
    rows: list[Row] = []
    for line in text.strip().splitlines():
        cells = [[way.strip() for way in cell.split("/")] for cell in line.split("|")]
        if len(cells) != len(columns):
            raise ValueError(f"{len(cells)} cells under {header!r}: {line!r}")
        rows += [dict(zip(columns, row, strict=True)) for row in product(*cells)]
    return tuple(rows)


@cache
def role_of(slot: str) -> str:
    """Return the role of a slot, with its number if it has one: `beast2` for `{A Beast2.sound}`."""
    match = _SLOT_PARTS.fullmatch(slot)
    if match is None:
        raise ValueError(f"bad slot {slot}")
    role = match[2]
    return (role if len(role) == 1 else role[0].lower() + role[1:]) + match[3]


def fill(slot: str, row: Row, hero: dict[str, str]) -> str:
    """Fill `slot` from `row`; a cell may contain slots of the hero (`{his}`).

    Errors: ValueError if the row has no such column.
    """
    match = _SLOT_PARTS.fullmatch(slot)
    assert match is not None, slot
    article, role, _, column = match.groups()
    word = row["_"]
    if column is None:
        pass
    elif column in row:
        word = row[column]
    elif column in ("s", "ed", "ing"):
        word = {"s": plural, "ed": past, "ing": gerund}[column](word)
    else:
        raise ValueError(f"{slot}: no column {column!r} in {row}")
    if "{" in word:
        word = "".join(hero.get(piece, piece) for piece in SLOT.split(word))
    if article:
        word = with_article(word)
    return capital(word) if article == "A" or role[0].isupper() else word


def _expand(line: str) -> tuple[Pieces, ...]:
    """Expand the choices inside a line into all variants, each split at its slots."""
    parts = _CHOICE.split(line)  # literal, choice, literal, choice, ..., literal
    ways = product(*(part.split("|") if at % 2 else [part] for at, part in enumerate(parts)))
    return tuple(tuple(piece for piece in SLOT.split("".join(way)) if piece) for way in ways)


@dataclass(frozen=True)
class BeatText:
    """A beat as text: its lines, the flags that it needs and those that exclude it."""

    lines: tuple[str, ...]
    wants: frozenset[str] = frozenset()
    shuns: frozenset[str] = frozenset()

    @cached_property
    def slots(self) -> frozenset[str]:
        """Every slot of its lines."""
        return frozenset(slot for line in self.lines for slot in SLOT.findall(line))

    def fits(self, flags: frozenset[str]) -> bool:
        """Whether a story with these flags (drawn features, kind of hero) has this beat."""
        return self.wants <= flags and not self.shuns & flags


@cache
def compiled(lines: tuple[str, ...], before: str) -> Beat:
    """Compile lines into the variants of a beat, each after `before`, a space or line break."""
    return tuple(((),) if line == "~" else tuple((before, *way) for way in _expand(line)) for line in lines)


Paragraphs = tuple[tuple[BeatText, ...], ...]


def parse(text: str, shared: dict[str, str]) -> Paragraphs:
    """Parse a plot's text (see the module's docstring) into paragraphs of beats."""
    paragraphs: list[list[BeatText]] = [[]]
    for block in text.strip().split("\n\n"):
        lines = [line.strip() for line in block.strip().splitlines()]
        if lines and lines[0] == "--":
            paragraphs.append([])
            lines = lines[1:]
        flags = lines.pop(0).split() if lines and lines[0].startswith(("?", "!")) else []
        wants = frozenset(flag[1:] for flag in flags if flag[0] == "?")
        shuns = frozenset(flag[1:] for flag in flags if flag[0] == "!")
        if lines and lines[0].startswith("@"):
            for beat in (beat for beats in parse(shared[lines[0][1:]], shared) for beat in beats):
                paragraphs[-1].append(BeatText(beat.lines, beat.wants | wants, beat.shuns | shuns))
        elif lines:
            paragraphs[-1].append(BeatText(tuple(lines), wants, shuns))
    return tuple(tuple(beats) for beats in paragraphs)


def beats_for(paragraphs: Paragraphs, flags: frozenset[str]) -> tuple[Beat, ...]:
    """Return the compiled beats of a story with these flags.

    The first beat of a paragraph must not have a `~` variant, because the line break would be lost with it.
    Errors: ValueError where all its lines begin with a name.
    """
    beats: list[Beat] = []
    for paragraph in paragraphs:
        fitting = [beat.lines for beat in paragraph if beat.fits(flags)]
        if not fitting:
            continue
        first = tuple(line for line in fitting[0] if not line.startswith(_NAMES))
        if not first:
            raise ValueError(f"a paragraph can only begin with a name: {fitting[0]}")
        beats.append(compiled(first, "\n" if beats else ""))
        beats += [compiled(lines, " ") for lines in fitting[1:]]
    return tuple(beats)


def slots_for(paragraphs: Paragraphs, flags: frozenset[str]) -> frozenset[str]:
    """Return every slot of a story with these flags."""
    return frozenset().union(*(beat.slots for paragraph in paragraphs for beat in paragraph if beat.fits(flags)))
