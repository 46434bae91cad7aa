"""Checks of the corpus: figures in reports/data.json, and one line where one is beyond its limit."""

import json

import pytest

from tests.support.repository import PARAMS
from tinystories.common import paths
from tinystories.common.corpus_figures import CorpusFigures
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.corpus.stories import write_stories
from tinystories.encoding.checks import check_corpus
from tinystories.encoding.writer import tokenize_to_memmap
from tinystories.sources import storygen
from tinystories.tokenizer_training.bpe import save_tokenizer


@pytest.fixture
def corpus(tmp_path, monkeypatch, tokenizer):
    """Return a function that writes and encodes both splits."""
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tokenizer, paths.TOKENIZER)

    def make(train: list[str], valid: list[str]) -> None:
        write_stories(paths.RAW_TRAIN, train)
        write_stories(paths.RAW_VALID, valid)
        tokenize_to_memmap()

    return make


def params(**limits: float) -> Params:
    values = load_params(PARAMS).model_dump()
    values["checks"].update(limits)
    return Params.model_validate(values)


def test_check_corpus_takes_generated_stories(corpus):
    stories = list(storygen.stories(0, 0, 220))
    corpus(stories[:200], stories[200:])
    check_corpus(params())
    found = CorpusFigures.read()
    assert (found.duplicates, found.overlap, found.mojibake, found.cut_stories) == (0, 0, 0, 1)
    assert (found.train.stories, found.valid.stories) == (200, 20)
    assert found.train.words == sum(len(story.split()) for story in stories[:200])
    assert found.train.shortest < found.train.p5 < found.train.p50 < found.train.p95 < found.train.longest
    assert 1 < found.train.bytes_per_token < 4


def test_check_corpus_takes_the_smallest(corpus):
    corpus(["A frog."], ["A cat."])
    check_corpus(params())
    assert CorpusFigures.read().train.words == 2


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            {"max_overlap": 0.2},
            "checks.max_overlap is 0.2, but 0.25 of the validation stories are training stories too",
        ),
        ({"max_duplicates": 0.1}, "checks.max_duplicates is 0.1, but 0.2 of the training stories are copies"),
        ({"max_cut_stories": 0.1}, "checks.max_cut_stories is 0.1, but 0.2 of the training stories are longer than"),
        ({"max_mojibake": 10.0}, "checks.max_mojibake is 10, but "),
        ({"min_bytes_per_token": 9.0}, "checks.min_bytes_per_token is 9, but the validation stories have "),
    ],
)
def test_check_corpus_one_line_beyond_a_limit(corpus, limits, message):
    corpus(["A frog.", "A frog.", "A cat. " * 100, "Itâ€™s a cow.", "A dog."], ["A cat sat.", "A dog.", "Ox.", "Hm."])
    allowed = {"max_overlap": 0.5, "max_duplicates": 0.5, "max_mojibake": 1e6}
    check_corpus(params(**allowed))
    paths.CORPUS_FIGURES.unlink()
    with pytest.raises(UserError) as error:
        check_corpus(params(**{**allowed, **limits}))
    assert str(error.value).startswith(message) and str(error.value).endswith("reports/data.json")
    assert json.loads(paths.CORPUS_FIGURES.read_text())["train"]["stories"] == 5


def test_check_corpus_round_trip(corpus):
    corpus(["A frog."], ["A cat.", "A dog.", "A cow."])
    write_stories(paths.RAW_VALID, ["A cat.", "A hog.", "A cow."])
    with pytest.raises(UserError, match=r"valid.bin: story 2 does not decode to that of data/raw/valid.txt"):
        check_corpus(params())
