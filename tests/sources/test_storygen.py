"""The made-up stories: that they are repeatable, all different, rich in words, and in good English."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tinystories.sources.storygen import (
    FEATURES,
    MAX_STORIES,
    _scramble,
    cast,
    grammar,
    names,
    plan_of,
    plot_of,
    stories,
)
from tinystories.sources.storygen.plots import PLOTS

SEED = 11
MANY = 20_000
SOME = 6_000
WORD = re.compile(r"[A-Za-z']+")

SEEDS = st.integers(min_value=0, max_value=2**64)
STARTS = st.integers(min_value=0, max_value=MAX_STORIES - 10)


@pytest.fixture(scope="module")
def many() -> list[str]:
    return list(stories(SEED, 0, MANY))


def all_lines():
    """Every line of every beat of every plot."""
    return (line for plot in PLOTS for paragraph in plot.paragraphs for beat in paragraph for line in beat.lines)


# --- The stream ---------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, start=STARTS, count=st.integers(0, 8), skip=st.integers(0, 8))
def test_any_slice_is_the_same_stories(seed, start, count, skip):
    whole = list(stories(seed, start, count))
    assert len(whole) == count
    assert list(stories(seed, start + min(skip, count), max(0, count - skip))) == whole[skip:]


def test_stories_are_the_same_whatever_the_hash_seed():
    program = (
        "import hashlib; from tinystories.sources.storygen import stories; "
        "print(hashlib.sha256('\\0'.join(stories(5, 100, 300)).encode()).hexdigest())"
    )
    here = hashlib.sha256("\0".join(stories(5, 100, 300)).encode()).hexdigest()
    for hash_seed in ("0", "4321"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert there.stdout.strip() == here, there.stderr


def test_seeds_tell_different_stories():
    told = [set(stories(seed, 0, 500)) for seed in range(4)]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(told, 2))


@pytest.mark.parametrize(("seed", "start", "count"), [(-1, 0, 1), (1, -1, 1), (1, 0, -1), (1, MAX_STORIES, 1)])
def test_numbers_out_of_range_are_refused(seed, start, count):
    with pytest.raises(ValueError, match="want a seed >= 0"):
        next(stories(seed, start, count))


# --- No two alike -------------------------------------------------------------------------------------------------


def test_no_two_of_many_stories_are_alike(many):
    assert len(set(many)) == MANY


@given(seed=SEEDS, index=st.integers(0, MAX_STORIES - 1))
def test_scrambling_can_be_undone(seed, index):
    def unshift(bits: int, by: int) -> int:
        return bits ^ (bits >> by) ^ (bits >> 2 * by)

    mask = MAX_STORIES - 1
    bits = unshift(_scramble(seed, index), 15)
    bits = unshift(bits * pow(0x735A2D97, -1, MAX_STORIES) & mask, 15)
    bits = unshift(bits * pow(0x21F0AAAD, -1, MAX_STORIES) & mask, 16)
    assert (bits - seed * 0x9E3779B1) & mask == index


def test_names_are_one_for_each_value_and_shared_by_no_list():
    lists = [names.HEROES, names.FRIENDS, names.TOWNS]
    assert [len(one) for one in lists] == [2**7, 2**7, 2**16]
    assert len(set(itertools.chain(*lists))) == sum(len(one) for one in lists)


def test_no_name_is_a_word_of_the_plots_or_tables():
    texts = itertools.chain(all_lines(), (cell for rows in cast.tables() for row in rows for cell in row.values()))
    words = {capital for text in texts for word in WORD.findall(text) for capital in (word, word.capitalize())}
    words |= set(names.SURNAMES)
    towns = {town.split()[1] for town in names.TOWNS}
    assert not words & {*names.HEROES, *names.FRIENDS, *towns}
    assert not towns & {*names.HEROES, *names.FRIENDS}


def test_every_story_of_every_plot_names_hero_friend_and_town():
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


def test_the_number_can_be_read_back_from_the_names(many):
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


# --- What was drawn is there --------------------------------------------------------------------------------------


def test_drawn_words_and_names_are_in_the_story(many):
    for index in range(0, MANY, 20):
        story, plan = many[index].lower(), plan_of(SEED, index)
        verbs = (plan.verb, grammar.past(plan.verb), grammar.gerund(plan.verb))
        assert plan.noun in story
        assert plan.adjective in story
        assert any(verb in story for verb in verbs)
        assert all(name.lower() in story for name in (plan.hero, plan.friend, plan.town))


def test_plots_and_features_are_all_told():
    plans = [plan_of(SEED, index) for index in range(2_000)]
    assert len(PLOTS) >= 14
    assert {plan.plot for plan in plans} == {plot.name for plot in PLOTS}
    assert plot_of(SEED, 5) == plans[5].plot
    for name, share in FEATURES.items():
        assert abs(sum(name in plan.features for plan in plans) / len(plans) - share) < 0.06, name
    assert not any(plan.features >= {"bad", "twist"} for plan in plans)


def test_plots_differ_in_structure():
    """Plots share their openings and endings, but hardly a line of what happens between."""
    told = [
        {line for paragraph in plot.paragraphs[1:-1] for beat in paragraph for line in beat.lines} for plot in PLOTS
    ]
    for one, other in itertools.combinations(told, 2):
        assert len(one & other) <= 3


def test_there_are_enough_different_words(many):
    words = {word for story in many for word in WORD.findall(story.lower())}
    made = {name.lower() for name in (*names.HEROES, *names.FRIENDS, *names.TOWNS, *names.SURNAMES)}
    assert len(words) > 2_500
    assert len({word for word in words if word.removesuffix("'s") not in made}) > 1_500


def test_a_vocabulary_of_4000_can_be_learned_from_the_stories(many):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=4_000,
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.islice(many, 3_000), trainer)
    assert tokenizer.get_vocab_size() == 4_000


# --- Good English -------------------------------------------------------------------------------------------------


def test_shape_of_a_story(many):
    sizes = [len(story.encode()) for story in many]
    assert 700 <= sum(sizes) / MANY <= 1_100
    assert min(sizes) >= 300
    assert max(sizes) <= 2_500
    for story in many:
        assert 3 <= len(story.split("\n")) <= 6
        assert "<|endoftext|>" not in story
        assert story.isascii()


@pytest.mark.parametrize(
    "wrong",
    [
        r"[{}\[\]|~@?!]{2}|[{}\[\]|~@_]",  # what is left of a template
        r"  | \n|\n | [,.!?]|\n\n|^\s|\s$",  # space where none belongs
        r"[,.]{2}|[.!?],",  # doubled marks
        r"\b(\w+) (?!that\b|had\b)\1\b",  # doubled words
        r"(?:^|\n|[.!?] )[a-z]",  # a sentence without a capital
        r"[a-z,](?:\n|$)",  # a paragraph without an end
        r"\b[Aa] (?!uni|one)[aeiouAEIOU]",
        r"\b[Aa]n [^aeiouAEIOUh]",
        r"\b(?:goed|runned|swimmed|throwed|maked|finded|losed|taked|catched|sitted|flied|gived|eated)\b",
        r"\b[Aa]n? (?:mice|children|feet|leaves|eggs|nuts)\b",
    ],
)
def test_nothing_is_written_wrong(many, wrong):
    pattern = re.compile(wrong)
    for story in many[:SOME]:
        match = pattern.search(story)
        assert match is None, (match, story)


def test_quotes_are_balanced_in_every_paragraph(many):
    speech = re.compile(r'(?:"[A-Z]|(?<=, )"[a-z])[^"]*[.,!?]"')
    for story in many[:SOME]:
        for paragraph in story.split("\n"):
            assert '"' not in speech.sub("", paragraph).replace('"why"', ""), paragraph


def test_pronouns_are_those_of_the_people(many):
    """Where all people are of one sex, no pronoun of the other is found anywhere."""
    other = {
        "she": re.compile(r"\b(?:he|him|his|himself)\b", re.IGNORECASE),
        "he": re.compile(r"\b(?:she|her|hers|herself)\b", re.IGNORECASE),
    }
    seen = {"she": 0, "he": 0}
    for index in range(0, MANY, 4):
        pronouns = plan_of(SEED, index).pronouns
        if len(pronouns) == 1:
            (only,) = pronouns
            seen[only] += 1
            assert not other[only].search(many[index]), many[index]
    assert min(seen.values()) > 100


def test_the_hero_keeps_kind_and_sex(many):
    """A girl is never a boy later on, and an animal has no hands."""
    for index, story in enumerate(many[:2_000]):
        hero = plan_of(SEED, index).hero
        kinds = set(re.findall(rf"\b{hero} the (\w+)", story)) | set(
            re.findall(rf"(\w+) (?:named|called) {hero}\b", story)
        )
        assert len(kinds) <= 1, story
        if kinds and not kinds & {"girl", "boy"}:
            assert not re.search(r"\bhands?\b", story), story


# --- The grammar --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "past", "gerund"),
    [
        ("fly kites", "flew kites", "flying kites"),
        ("skip", "skipped", "skipping"),
        ("tie a knot", "tied a knot", "tying a knot"),
        ("bake", "baked", "baking"),
        ("carry", "carried", "carrying"),
        ("play chess", "played chess", "playing chess"),
    ],
)
def test_verbs_are_inflected(verb, past, gerund):
    assert (grammar.past(verb), grammar.gerund(verb)) == (past, gerund)


@pytest.mark.parametrize(
    ("noun", "plural"), [("toy boat", "toy boats"), ("mouse", "mice"), ("berry", "berries"), ("box", "boxes")]
)
def test_nouns_are_inflected(noun, plural):
    assert grammar.plural(noun) == plural


def test_articles_go_by_sound():
    phrases = ["owl", "unicorn", "hour", "huge owl", "old hat"]
    assert [grammar.with_article(phrase) for phrase in phrases] == [
        "an owl", "a unicorn", "an hour", "a huge owl", "an old hat",
    ]  # fmt: skip


def test_a_plot_in_a_few_lines():
    text = '{H} had {a thing}.\n\n--\n?bad\n"It [broke|cracked]," {he} said.\n\n--\n!bad\n{Thing.s} are fun.\n~'
    paragraphs = grammar.parse(text, {})
    bad = grammar.beats_for(paragraphs, frozenset({"bad"}))
    assert bad[1] == ((("\n", '"It broke," ', "{he}", " said."), ("\n", '"It cracked," ', "{he}", " said.")),)
    good = grammar.beats_for(paragraphs, frozenset())
    assert good[1] == ((("\n", "{Thing.s}", " are fun."),), ((),))
    assert grammar.slots_in(good) == {"{H}", "{a thing}", "{Thing.s}"}
    row = grammar.table("_ | use", "berry | eat it with {his} friend")[0]
    assert [grammar.fill(slot, row, {"{his}": "her"}) for slot in ("{Thing.s}", "{a thing}", "{thing.use}")] == [
        "Berries", "a berry", "eat it with her friend",
    ]  # fmt: skip


def test_mistakes_in_tables_and_slots_are_named():
    with pytest.raises(ValueError, match="1 cells under"):
        grammar.table("_ | use", "berry")
    with pytest.raises(ValueError, match="bad slot"):
        grammar.role_of("{two words here}")
    with pytest.raises(ValueError, match="no column 'color'"):
        grammar.fill("{thing.color}", {"_": "ball"}, {})
