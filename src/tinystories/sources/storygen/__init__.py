"""Generate small stories, to try the pipeline without a network.

The recipe is that of TinyStories (Eldan & Li 2023, arXiv 2305.07759): for each story a noun, a verb and an adjective
are drawn that it must use, and features it must have (dialogue, a moral, a twist ...). There a large language model
wrote the story. Here a hand-written grammar does (`grammar`), with its plots (`plots`) and words (`things`,
`creatures`, `places`, `names`).

No two stories of a seed are alike, and none has to be remembered for that. The number of a story goes through a
bijection of 30-bit numbers (`_scramble`), and the resulting bits choose the names of the hero (7 bits), the friend (7)
and the town (16), one name for each value. Every story mentions all three, the three lists have no name in common, and
no name is a word of the plots. So the names, and from them the number, can be read back from the text: two stories with
the same text have the same number. Hence stories [0, n) and [n, n + m) never overlap.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import NamedTuple

from . import cast
from .grammar import Beat, beats_for, role_of, slots_for
from .names import FRIENDS, HEROES, TOWNS
from .plots import PLOTS, Plot

__all__ = ["FEATURES", "MAX_STORIES", "PLOTS", "Plan", "plan_of", "plot_of", "stories"]

MAX_STORIES = 2**30
"""Number of stories of a seed."""

FEATURES = {"dialogue": 0.5, "moral": 0.5, "twist": 0.25, "bad": 0.12, "foreshadow": 0.25, "conflict": 0.3}
"""Probability of each feature. A bad ending excludes a twist."""

_ANIMAL_SHARE = 0.35  # of the stories have an animal for a hero
_SHORT_SHARE = 0.4  # of the stories leave out the beats marked `!short`

Words = dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What was drawn for a story before it was written.

    `pronouns`: those of the people and named animals in it: `she`, `he` or both.
    """

    plot: str
    features: frozenset[str]
    noun: str
    verb: str
    adjective: str
    hero: str
    friend: str
    town: str
    pronouns: frozenset[str]


def stories(seed: int, start: int, count: int) -> Iterator[str]:
    """Yield stories number `start` to `start + count - 1` of `seed`.

    A story is a few paragraphs separated by line breaks, without one at the end. Story i depends only on (seed, i).
    Errors: ValueError, at the first story, if the seed is negative or a number is not in [0, MAX_STORIES).
    """
    _check(seed, start, count)
    random = Random()
    for index in range(start, start + count):
        script, words = _draw(random, seed, index)
        chance = random.random
        pieces: list[str] = []
        for beat in script.beats:
            ways = beat[int(chance() * len(beat))]
            pieces += ways[int(chance() * len(ways))]
        yield "".join(map(words.get, pieces, pieces))  # a piece that is no slot stands for itself


def plan_of(seed: int, index: int) -> Plan:
    """Return what is drawn for story `index` of `seed`. Errors: ValueError as in `stories`."""
    _check(seed, index, 1)
    (plot, flags, _, _), words = _draw(Random(), seed, index)
    return Plan(
        plot=plot.name,
        features=flags & FEATURES.keys(),
        noun=words[f"{{{plot.noun}}}"],
        verb=words["{do}"],
        adjective=words[f"{{{plot.noun}.adj}}"],
        hero=words["{H}"],
        friend=words["{F}"],
        town=words["{town}"],
        pronouns=frozenset(words[slot] for slot in _PEOPLE if slot in words),
    )


def plot_of(seed: int, index: int) -> str:
    """Return the name of the plot of story `index` of `seed`. Errors: ValueError as in `stories`."""
    return plan_of(seed, index).plot


def _check(seed: int, start: int, count: int) -> None:
    if seed < 0 or start < 0 or count < 0 or start + count > MAX_STORIES:
        raise ValueError(f"seed {seed}, start {start}, count {count}: want a seed >= 0 and numbers in [0, 2**30)")


def _scramble(seed: int, index: int) -> int:
    """Map 30-bit numbers to 30-bit numbers by a bijection, another for each seed. Each step is invertible.

    The steps are those of common integer hashes: adding a constant, multiplying by an odd number (mod 2**30), and xor
    with a right shift of itself.
    """
    mask = MAX_STORIES - 1
    bits = (index + seed * 0x9E3779B1) & mask
    bits = (bits ^ (bits >> 16)) * 0x21F0AAAD & mask
    bits = (bits ^ (bits >> 15)) * 0x735A2D97 & mask
    return bits ^ (bits >> 15)


def _draw(random: Random, seed: int, index: int) -> tuple[_Script, Words]:
    """Draw story `index`: its script and words. `random` continues with the choices between beats.

    Only `Random.random` is used: for an integer seed its numbers are the same in every version of Python.
    """
    random.seed(seed * MAX_STORIES + index)
    chance = random.random
    code = _scramble(seed, index)
    hero, friend, town = code & 0x7F, code >> 7 & 0x7F, code >> 14
    sex = cast.SEXES[hero >= len(HEROES) // 2]
    friend_sex = cast.SEXES[friend >= len(FRIENDS) // 2]
    kind = friend_kind = cast.CHILD
    if chance() < _ANIMAL_SHARE:
        one = int(chance() * len(_ANIMALS))
        other = one + 1 + int(chance() * (len(_ANIMALS) - 1))  # not the hero's own kind
        kind, friend_kind = _ANIMALS[one], _ANIMALS[other % len(_ANIMALS)]
    number = int(chance() * len(PLOTS))
    drawn = 0
    for bit, often in _FLAG_ODDS:
        if chance() < often:
            drawn |= bit
    script = _script(number, drawn, kind == cast.CHILD)
    words = {
        **_person(number, sex, kind, ""),
        **_person(number, friend_sex, friend_kind, "F."),
        "{H}": HEROES[hero],
        "{F}": FRIENDS[friend],
        "{town}": TOWNS[town],
    }
    for rows, size in script.decks[sex]:
        words.update(rows[int(chance() * size)])
    return script, words


_ANIMALS = tuple(cast.ANIMALS)
_FLAGS = {**FEATURES, "short": _SHORT_SHARE}
_FLAG_ODDS = tuple((1 << bit, often) for bit, often in enumerate(_FLAGS.values()))
_PEOPLE = ("{he}", "{F.he}", "{elder.he}", "{neighbor.he}")


class _Script(NamedTuple):
    """What stories with the same plot and flags share."""

    plot: Plot
    flags: frozenset[str]
    beats: tuple[Beat, ...]
    decks: dict[str, tuple[tuple[cast.Deck, int], ...]]  # by the hero's sex: one for each role, with its length


@cache
def _script(number: int, drawn: int, child: bool) -> _Script:
    """Return the script for the number of a plot and a bit set of flags."""
    names = {name for (bit, _), name in zip(_FLAG_ODDS, _FLAGS, strict=True) if drawn & bit}
    if "bad" in names:
        names.discard("twist")
    flags = frozenset(names | {"child" if child else "animal"})
    beats = beats_for(PLOTS[number].paragraphs, flags)
    roles = sorted({role_of(slot) for slot in slots_for(PLOTS[number].paragraphs, flags)} & _roles())
    decks = {sex: [_deck(role, sex, not child) for role in roles] for sex in cast.SEXES}
    sized = {sex: tuple((rows, len(rows)) for rows in found) for sex, found in decks.items()}
    return _Script(PLOTS[number], flags, beats, sized)


@cache
def _person(number: int, sex: str, kind: str, prefix: str) -> Words:
    """Return the slots of `cast.person_slots` that the plot of this number has, a few of many, and the pronoun."""
    used = _plot_slots(number).union(_PEOPLE)
    return {slot: word for slot, word in _person_slots(sex, kind, prefix).items() if slot in used}


_person_slots = cache(cast.person_slots)


@cache
def _plot_slots(number: int) -> frozenset[str]:
    return frozenset().union(*(beat.slots for beats in PLOTS[number].paragraphs for beat in beats))


@cache
def _roles() -> frozenset[str]:
    """Return the roles that are drawn from tables: all but hero, friend and town."""
    return frozenset(role for role in map(role_of, _all_slots()) if role.rstrip("0123456789") in cast.ROLES)


@cache
def _all_slots() -> frozenset[str]:
    """Return every slot of every plot, and those that `plan_of` needs."""
    nouns = {f"{{{plot.noun}{column}}}" for plot in PLOTS for column in ("", ".adj")}
    return frozenset(nouns.union(*map(_plot_slots, range(len(PLOTS)))))


@cache
def _deck(role: str, sex: str, wild: bool) -> cast.Deck:
    return cast.deck(role, set(_all_slots()), sex, wild)
