"""What stories have from the training text, on texts that are counted by hand and against a slow way."""

import random

import numpy as np
import pytest

from tinystories.evaluation import copying as module
from tinystories.evaluation.copying import Copying, training_pieces
from tinystories.evaluation.text_measures import STORY_END, words_of


def compare(stories: list[str], training: list[str], pieces: int = 1) -> Copying:
    found = Copying([words_of(story) for story in stories], [True] * len(stories))
    size = -(-len(training) // pieces)
    for first in range(0, len(training), size):
        found.read([word for story in training[first : first + size] for word in (*words_of(story), STORY_END)])
    return found


def test_match_lengths_and_rouge_of_an_example():
    found = compare(["the cat sat on a red mat", "a dog", "cat", ""], ["The cat sat.", "He sat on a mat; the cat sat."])
    # "the cat sat" three words, "sat on a" three; no run goes from one training story to the next.
    assert [lengths.tolist() for lengths in found.match_lengths] == [[3, 2, 3, 2, 1, 0, 1], [1, 0], [1], []]
    # Of the bigrams the-cat cat-sat sat-on on-a a-red red-mat, the second training story has four.
    assert found.rouge_2 == [pytest.approx(4 / 6), 0, None, None]


def test_rouge_counts_a_bigram_as_often_as_both_have_it():
    found = compare(["x y x y x y"], ["x y z x y z", "y x"])
    assert found.rouge_2 == [pytest.approx(2 / 5)]  # x-y twice; of three x-y and two y-x


def slow_longest(story: list[str], training: list[list[str]], place: int) -> int:
    runs = {tuple(text[i:j]) for text in training for i in range(len(text)) for j in range(i + 1, len(text) + 1)}
    return max((n for n in range(1, len(story) - place + 1) if tuple(story[place : place + n]) in runs), default=0)


@pytest.mark.parametrize("pieces", [1, 3])
def test_match_lengths_equal_a_slow_search(pieces):
    draw = random.Random(0)
    texts = [[draw.choice("abc") for _ in range(draw.randint(1, 15))] for _ in range(13)]
    ours, training = texts[:5], texts[5:]
    found = compare([" ".join(text) for text in ours], [" ".join(text) for text in training], pieces)
    expected = [[slow_longest(text, training, place) for place in range(len(text))] for text in ours]
    assert [lengths.tolist() for lengths in found.match_lengths] == expected


def test_copying_of_no_words_at_all():
    found = compare(["", ""], ["The cat sat."])
    assert [len(lengths) for lengths in found.match_lengths] == [0, 0]
    assert found.rouge_2 == [None, None]


def test_training_pieces_give_every_story_and_of_a_large_text_a_spaced_sample(tokenizer, stories, monkeypatch):
    encoded = [tokenizer.encode(story).ids for story in stories]
    tokens = np.array([0, *(token for ids in encoded for token in (*ids, 0))], np.uint16)
    everything = [STORY_END, *(word for story in stories for word in (*words_of(story), STORY_END))]
    assert list(training_pieces(tokens, tokenizer)) == [(len(tokens), everything)]

    monkeypatch.setattr(module, "PIECE_TOKENS", 100)
    monkeypatch.setattr(module, "MAX_PIECES", 3)
    pieces = list(training_pieces(tokens, tokenizer))
    assert [size for size, _ in pieces] == [100, 100, 100]
    assert all(words[-1] == STORY_END for _, words in pieces)
    assert words_of(stories[0])[:3] == pieces[0][1][1:4] and words_of(stories[-1])[-3:] == pieces[2][1][-4:-1]
