"""The stories that the stage `evaluate` draws and judges, of tiny models; bad ones too."""

import numpy as np
import pytest
import torch

from tests.support.wrong_inputs import refuses
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, Manifest, StoryFile
from tinystories.common.params import Params
from tinystories.common.story_figures import StoryFigures
from tinystories.evaluation import stories as module
from tinystories.evaluation.evaluate import evaluate
from tinystories.evaluation.stories import judge_stories, real_stories
from tinystories.model.checkpoint import save_checkpoint


@pytest.fixture(autouse=True)
def here(workspace, monkeypatch):
    """The current directory with token files and the corpus's manifest; stories of few tokens."""
    file = StoryFile(bytes=900, stories=60, sha256="a" * 64)
    Manifest(source="embedded", detail={}, train=file, valid=file).write()
    monkeypatch.setattr(module, "MAX_TOKENS", 40)


@pytest.fixture
def tokens():
    return np.fromfile(paths.TOKENS_TRAIN, "<u2"), np.fromfile(paths.TOKENS_VALID, "<u2")


@pytest.fixture
def copies(monkeypatch, tokens):
    """A model that writes the first training story, or the second without its end-of-text."""
    first, second = (part.tolist() for part in np.split(tokens[0][1:], np.flatnonzero(tokens[0][1:] == 0)[:2] + 1)[:2])

    def generate(model, prompts, max_new_tokens, **more):
        return [(first if number % 2 == 0 else second[:-1])[:max_new_tokens] for number in range(len(prompts))]

    monkeypatch.setattr(module, "generate", generate)


def judge(model, tokenizer, tokens, count=4, batch_size=3) -> StoryFigures:
    train, valid = tokens
    return judge_stories(model.inference_copy(), tokenizer, train, valid, count, batch_size)


def test_judge_stories_gives_the_same_figures_again_in_batches_of_any_size(random_model, tokenizer, tokens):
    torch.manual_seed(1)
    first = judge(random_model(), tokenizer, tokens)
    torch.manual_seed(2)
    assert judge(random_model(), tokenizer, tokens, batch_size=64) == first
    assert judge(random_model(seed=1), tokenizer, tokens) != first
    assert [group.stories for group in first.groups.values()] == [4, 4, 4]


def test_judge_stories_finds_copies(copies, random_model, tokenizer, tokens, monkeypatch):
    monkeypatch.setattr(module, "MAX_TOKENS", 400)
    figures = judge(random_model(), tokenizer, tokens, batch_size=8)
    assert figures.unprompted and figures.real
    assert (figures.unprompted.ended, figures.unprompted.new_words, figures.unprompted.new_4grams) == (0.5, 0, 0)
    assert (figures.unprompted.rouge_2, figures.real.rouge_2, figures.real.ended) == (1, 1, 1)  # the same stories
    assert figures.train_tokens == len(tokens[0])


@pytest.mark.parametrize("written", [[0], [], [300 - 1] * 5, [0x21 - 0x20] * 40], ids=["empty", "none", "one", "marks"])
def test_judge_stories_of_a_model_that_writes_nothing_of_use(written, random_model, tokenizer, tokens, monkeypatch):
    """Figures are missing where there is nothing to measure; none is NaN, and the file can be read back."""
    monkeypatch.setattr(module, "generate", lambda model, prompts, **more: [written] * len(prompts))
    figures = judge(random_model(), tokenizer, tokens)
    figures.write()
    assert StoryFigures.read() == figures
    if not tokenizer.decode(written):
        assert figures.unprompted and (figures.unprompted.words, figures.unprompted.ended) == (0, 0)
        assert figures.unprompted.seq_rep_4 is figures.unprompted.rouge_2 is figures.unprompted.gzip_ratio is None


def test_judge_stories_beside_a_validation_set_of_three(random_model, tokenizer, tokens):
    train, valid = tokens
    fourth = np.flatnonzero(valid == 0)[3]
    figures = judge(random_model(), tokenizer, (train, valid[: fourth + 1]), count=9)
    assert [group.stories for group in figures.groups.values()] == [9, 3, 3]


def test_real_stories_are_spaced_and_cut():
    valid = np.array([0, 1, 2, 0, 3, 0, *range(10, 60), 0, 4, 0, 5, 0], np.uint16)
    assert real_stories(valid, 9) == [[1, 2, 0], [3, 0], list(range(10, 50)), [4, 0], [5, 0]]
    assert real_stories(valid, 3) == [[1, 2, 0], list(range(10, 50)), [5, 0]]
    assert real_stories(valid, 1) == [[1, 2, 0]]


@pytest.fixture
def params(small_params: Params, random_model) -> Params:
    paths.CHECKPOINT.parent.mkdir(exist_ok=True)
    save_checkpoint(random_model(), paths.TOKENIZER, paths.CHECKPOINT)
    EpochIndex(epochs=[1], best=1).write()
    return small_params


def with_evaluate(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"evaluate": params.evaluate.model_copy(update=changes)})


def test_evaluate_judges_as_many_stories_as_it_is_told(params):
    evaluate(with_evaluate(params, stories=3))
    assert [group.stories for group in StoryFigures.read().groups.values()] == [3, 3, 3]
    paths.TOKENS_TRAIN.unlink()
    evaluate(params)
    assert StoryFigures.read() == StoryFigures()
    refuses(lambda: evaluate(with_evaluate(params, stories=3)), "train.bin: no such file")


def test_evaluate_fails_on_a_model_worse_than_the_limit_after_writing_all(params):
    refuses(
        lambda: evaluate(with_evaluate(params, max_bits_per_byte=0.01)),
        r"^evaluate.max_bits_per_byte is 0.01, but the model has \d\.\d{4}; train it better or raise the limit",
    )
    assert paths.EVALUATION.exists() and paths.STORIES.exists() and paths.FINAL_SAMPLES.exists()
    evaluate(with_evaluate(params, max_bits_per_byte=99.0))
