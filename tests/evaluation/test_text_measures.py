"""Measures of stories by their text alone, each on examples that are computed by hand."""

import gzip

import pytest

from tinystories.evaluation.text_measures import (
    distinct,
    ends_properly,
    gzip_ratio,
    kept_names,
    mean,
    pronouns_fit,
    repetition,
    share,
    words_of,
)
from tinystories.sources.storygen import stories


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("“Don't!” said Zoë’s dad—twice…", "don't said zoë's dad twice"),
        ("'It is mine,' he said. A 3-year-old's x2", "it is mine he said a year old's x"),
        ("", ""),
        ("?! 12 🐉", "🐉"),
    ],
)
def test_words_of_a_text(text, words):
    assert [word.decode() for word in words_of(text)] == words.split()


@pytest.mark.parametrize(
    ("text", "proper"),
    [("The end.", True), ('"Yes!"', True), ("“Why?”\n", True), ("终。", True), ("and then he", False), ("", False)],
)
def test_ends_properly(text, proper):
    assert ends_properly(text) == proper


def test_repetition_counts_ngrams_said_before():
    # abcd bcda cdab dabc abcd: one of five was said before.
    assert repetition(words_of("a b c d a b c d")) == pytest.approx(1 / 5)
    assert repetition(words_of("a b c")) is None


def test_distinct_is_the_mean_over_blocks_of_one_size():
    assert distinct(words_of("a b a b a"), n=2) == 2 / 4
    # Two blocks, "a b a b" with 2 of 3 and "c d e f" with 3 of 3; the rest is left out.
    assert distinct(words_of("a b a b c d e f a a a"), n=2, block=4) == pytest.approx((2 / 3 + 1) / 2)
    assert distinct(words_of("a b"), n=3) is None


def test_gzip_ratio_is_the_mean_over_blocks_of_one_size():
    same, other = b"a" * 1000, bytes(range(250)) * 4
    alone = [1000 / len(gzip.compress(part)) for part in (same, other)]
    assert gzip_ratio(same + other + b"rest", block=1000) == pytest.approx(sum(alone) / 2)
    assert gzip_ratio(b"") is None


# Lily, Mia and Tom are heroes' names, Priya and Ollie friends'.
@pytest.mark.parametrize(
    ("text", "generated", "others"),
    [
        ("Lily met Priya. Lily's cat saw Priya.", 4 / 4, 2 / 2),
        ("Lily met Priya. Mia met Priya.", 3 / 4, 1 / 2),
        ("Lily met Priya. Lily met Tom and Ollie. Lily!", 4 / 6, 1 / 3),
        ("A lily met a girl.", None, None),
        ("Lily was a girl in a house.", 1, None),
        ("", None, None),
    ],
)
def test_kept_names(text, generated, others):
    assert kept_names(text, True) == generated
    assert kept_names(text, False) == others


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("Lily lost her ball.", 1),
        ("Lily lost his ball.", 0),
        ("His name was Tom. He ran to his mom, and she's glad.", 1),
        ("His name was Tom. She ran.", 0),
        ("Lily saw it.", None),
        ("The dog lost his ball.", None),
    ],
)
def test_pronouns_fit(text, fits):
    assert pronouns_fit(text) == fits


def test_names_and_pronouns_of_generated_stories_stay():
    for text in stories(seed=1, start=0, count=300):
        assert kept_names(text, True) == 1, text
        assert pronouns_fit(text) in (1, None), text


def test_share_and_mean_of_nothing_are_none():
    assert (share([]), mean([]), mean([None])) == (None, None, None)
    assert (share([True, False]), mean([None, 1, 2])) == (0.5, 1.5)
