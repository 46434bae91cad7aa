"""What a training reads: token files that lie or do not match are refused before the first step."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wrong_inputs import TOKENS, VALID, Cases, refuses, replace_tokenizer, rewrite
from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.training import data
from tinystories.training import trainer as module
from tinystories.training.data import open_data, warn_of_many_passes
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
        "the valid text has 3 tokens; model.* more text$",
    ),
    "valid of one token": (
        lambda stories: rewrite(VALID, "valid", [0]),
        "the valid text has 1 token; model.* more text$",
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
    found = open_data(small_params.model.context_length)
    assert (len(found.train), len(found.valid)) == (found.meta.train.tokens, found.meta.valid.tokens)
    assert found.tokenizer.get_vocab_size() == found.meta.vocab_size


def test_open_data_suggests_a_context_that_works(here, monkeypatch):
    monkeypatch.setattr(data, "check_counts", lambda *_: None)
    rewrite(VALID, "valid", [0, *[5] * 31, 0])
    with pytest.raises(UserError, match="the valid text has 33 tokens; .*: dvc exp run -S model.context_length=32$"):
        open_data(100)
    open_data(32)
    rewrite(VALID, "valid", [0, *[5] * 30, 0])
    with pytest.raises(UserError, match="model.context_length=16$"):
        open_data(100)


def with_steps(params: Params, steps_per_epoch: int) -> Params:
    train = params.train.model_copy(update={"steps_per_epoch": steps_per_epoch})
    return params.model_copy(update={"train": train})


def test_warn_of_many_passes_suggests_fewer_steps(here, small_params: Params, capsys):
    found = open_data(small_params.model.context_length)
    pass_steps = len(found.train) / small_params.train.batch_size / small_params.model.context_length
    pass_steps /= small_params.train.epochs
    warn_of_many_passes(with_steps(small_params, int(pass_steps * 99)), found)
    assert capsys.readouterr().out == ""
    warn_of_many_passes(with_steps(small_params, round(pass_steps * 150) + 1), found)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: the training sees its {len(found.train):,} tokens 15")
    assert " times, and will know them by heart; fewer steps, for 20 times: " in line
    fewer = int(line.split("dvc exp run -S train.steps_per_epoch=")[1])
    assert 15 < fewer / pass_steps < 25
    warn_of_many_passes(with_steps(small_params, fewer), found)
    assert capsys.readouterr().out == ""
