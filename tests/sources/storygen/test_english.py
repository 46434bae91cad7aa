"""Generated stories: what was drawn is in them, rich in words, and in good English."""

from __future__ import annotations

import itertools
import re

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.support.storygen import MANY, SEED, SOME, WORD
from tinystories.sources.storygen import (
    FEATURES,
    grammar,
    names,
    plan_of,
    plot_of,
)
from tinystories.sources.storygen.plots import PLOTS


def test_stories_have_drawn_words_and_names(many):
    for index in range(0, MANY, 20):
        story, plan = many[index].lower(), plan_of(SEED, index)
        verbs = (plan.verb, grammar.past(plan.verb), grammar.gerund(plan.verb))
        assert plan.noun in story
        assert plan.adjective in story
        assert any(verb in story for verb in verbs)
        assert all(name.lower() in story for name in (plan.hero, plan.friend, plan.town))


def test_plan_of_all_plots_and_features():
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


def test_stories_rich_in_words(many):
    words = {word for story in many for word in WORD.findall(story.lower())}
    made = {name.lower() for name in (*names.HEROES, *names.FRIENDS, *names.TOWNS, *names.SURNAMES)}
    assert len(words) > 2_500
    assert len({word for word in words if word.removesuffix("'s") not in made}) > 1_500


def test_stories_give_vocabulary_of_4000(many):
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


def test_stories_length(many):
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
def test_stories_no_wrong_pattern(many, wrong):
    pattern = re.compile(wrong)
    for story in many[:SOME]:
        match = pattern.search(story)
        assert match is None, (match, story)


def test_stories_balanced_quotes(many):
    speech = re.compile(r'(?:"[A-Z]|(?<=, )"[a-z])[^"]*[.,!?]"')
    for story in many[:SOME]:
        for paragraph in story.split("\n"):
            assert '"' not in speech.sub("", paragraph).replace('"why"', ""), paragraph


def test_stories_right_pronouns(many):
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


def test_stories_hero_keeps_kind_and_sex(many):
    """A girl is never a boy later on, and an animal has no hands."""
    for index, story in enumerate(many[:2_000]):
        hero = plan_of(SEED, index).hero
        kinds = set(re.findall(rf"\b{hero} the (\w+)", story)) | set(
            re.findall(rf"(\w+) (?:named|called) {hero}\b", story)
        )
        assert len(kinds) <= 1, story
        if kinds and not kinds & {"girl", "boy"}:
            assert not re.search(r"\bhands?\b", story), story
