"""What a training reads: token files that lie or do not match are refused before the first step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wrong_inputs import TOKENS, VALID, Cases, refuses, replace_tokenizer, rewrite
from tinystories.common import paths
from tinystories.common.params import Params
from tinystories.training import trainer as module
from tinystories.training.data import open_data
from tinystories.training.trainer import train


@pytest.fixture
def here(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory with token files; nothing is trained in it."""
    monkeypatch.setattr(module, "TrainStep", lambda *_: pytest.fail("the training begins"))
    yield workspace
    assert not (paths.RUN.exists() or paths.HISTORY.exists())


CASES: Cases = TOKENS | {
    "valid of three tokens": (
        lambda stories: rewrite(VALID, "valid", [0, 5, 0]),
        "the valid stories have 3 tokens; model",
    ),
    "another tokenizer": (
        lambda stories: replace_tokenizer(paths.TOKENIZER, stories),
        "not the tokenizer that the token files were made with",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_train_refuses_inputs_that_do_not_match(here, small_params: Params, stories, case):
    change, message = CASES[case]
    change(stories)
    refuses(lambda: train(small_params, None), message)
    assert not (here / ".state").exists()


def test_train_takes_inputs_that_match(here, small_params: Params):
    """So that each refusal above has the reason it gives."""
    with pytest.raises(pytest.fail.Exception, match="the training begins"):
        train(small_params, None)


def test_open_data_returns_both_splits(here, small_params: Params):
    data = open_data(small_params.model.context_length)
    assert (len(data.train), len(data.valid)) == (data.meta.train.tokens, data.meta.valid.tokens)
    assert data.tokenizer.get_vocab_size() == data.meta.vocab_size
