"""Generated stories: repeatable, and no two alike."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.storygen import MANY, SEED, WORD
from tinystories.sources.storygen import (
    FEATURES,
    MAX_STORIES,
    _scramble,
    cast,
    grammar,
    names,
    stories,
)
from tinystories.sources.storygen.plots import PLOTS

SEEDS = st.integers(min_value=0, max_value=2**64)
STARTS = st.integers(min_value=0, max_value=MAX_STORIES - 10)


def all_lines():
    """Every line of every beat of every plot."""
    return (line for plot in PLOTS for paragraph in plot.paragraphs for beat in paragraph for line in beat.lines)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, start=STARTS, count=st.integers(0, 8), skip=st.integers(0, 8))
def test_stories_any_slice(seed, start, count, skip):
    whole = list(stories(seed, start, count))
    assert len(whole) == count
    assert list(stories(seed, start + min(skip, count), max(0, count - skip))) == whole[skip:]


def test_stories_pinned():
    """Figures in the documents are of these stories. A change of words or plots renews the checksum."""
    found = hashlib.sha256("\0".join(stories(0, 0, 2000)).encode()).hexdigest()
    assert found == "b64b766335b16f16b2438e652db498c3bb6b13e34058d070dc202d7f735116db"


def test_stories_independent_of_hash_seed():
    program = (
        "import hashlib; from tinystories.sources.storygen import stories; "
        "print(hashlib.sha256('\\0'.join(stories(5, 100, 300)).encode()).hexdigest())"
    )
    here = hashlib.sha256("\0".join(stories(5, 100, 300)).encode()).hexdigest()
    for hash_seed in ("0", "4321"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert there.stdout.strip() == here, there.stderr


def test_stories_differ_by_seed():
    told = [set(stories(seed, 0, 500)) for seed in range(4)]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(told, 2))


@pytest.mark.parametrize(("seed", "start", "count"), [(-1, 0, 1), (1, -1, 1), (1, 0, -1), (1, MAX_STORIES, 1)])
def test_stories_refuses_out_of_range(seed, start, count):
    with pytest.raises(ValueError, match="want a seed >= 0"):
        next(stories(seed, start, count))


def test_stories_no_two_alike(many):
    assert len(set(many)) == MANY


@given(seed=SEEDS, index=st.integers(0, MAX_STORIES - 1))
def test_scramble_is_a_bijection(seed, index):
    def unshift(bits: int, by: int) -> int:
        return bits ^ (bits >> by) ^ (bits >> 2 * by)

    mask = MAX_STORIES - 1
    bits = unshift(_scramble(seed, index), 15)
    bits = unshift(bits * pow(0x735A2D97, -1, MAX_STORIES) & mask, 15)
    bits = unshift(bits * pow(0x21F0AAAD, -1, MAX_STORIES) & mask, 16)
    assert (bits - seed * 0x9E3779B1) & mask == index


def test_names_distinct():
    lists = [names.HEROES, names.FRIENDS, names.TOWNS]
    assert [len(one) for one in lists] == [2**7, 2**7, 2**16]
    assert len(set(itertools.chain(*lists))) == sum(len(one) for one in lists)


def test_names_are_no_words():
    texts = itertools.chain(all_lines(), (cell for rows in cast.tables() for row in rows for cell in row.values()))
    words = {capital for text in texts for word in WORD.findall(text) for capital in (word, word.capitalize())}
    words |= set(names.SURNAMES)
    towns = {town.split()[1] for town in names.TOWNS}
    assert not words & {*names.HEROES, *names.FRIENDS, *towns}
    assert not towns & {*names.HEROES, *names.FRIENDS}


def test_paragraphs_begin_with_no_name(many):
    known = {*names.HEROES, *names.FRIENDS}
    begins = {WORD.findall(line)[0] for story in many for line in story.splitlines()}
    assert not begins & known


def test_plots_name_hero_friend_and_town():
    """For each set of flags there is a beat that has the name in all its ways: no story can go without."""
    for plot in PLOTS:
        for size in range(len(FEATURES) + 1):
            for features in itertools.combinations(FEATURES, size):
                for kind, length in itertools.product(({"child"}, {"animal"}), (set(), {"short"})):
                    beats = grammar.beats_for(plot.paragraphs, frozenset({*features} | kind | length))
                    for slot in ("{H}", "{F}", "{town}"):
                        has = (
                            all(any(slot in piece for piece in way) for ways in beat for way in ways) for beat in beats
                        )
                        assert any(has), (plot.name, features, kind, length, slot)


def test_stories_number_from_names(many):
    heroes, friends, towns = (
        {name: at for at, name in enumerate(one)} for one in (names.HEROES, names.FRIENDS, names.TOWNS)
    )
    for index in range(0, MANY, 7):
        words = [word.removesuffix("'s") for word in WORD.findall(many[index])]
        pairs = {" ".join(pair) for pair in itertools.pairwise(words)}
        (hero,) = (heroes[word] for word in set(words) if word in heroes)
        (friend,) = (friends[word] for word in set(words) if word in friends)
        (town,) = (towns[pair] for pair in pairs if pair in towns)
        assert hero | friend << 7 | town << 14 == _scramble(SEED, index)
