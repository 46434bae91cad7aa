"""What `train` and `evaluate` refuse before a number is computed: files that lie, and files that do not fit."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystories.common import paths
from tinystories.common.artifacts import TokenMeta
from tinystories.common.errors import UserError
from tinystories.common.files import write_json
from tinystories.common.params import ModelConfig, Params
from tinystories.encoding.writer import write_meta, write_tokens
from tinystories.evaluation import evaluate as evaluation
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer
from tinystories.training import trainer as training


@pytest.fixture
def here(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stories: list[str],
    tokenizer: Any,
    random_model: Callable[..., GPT],
) -> Iterator[Path]:
    """The current directory, with all that the stages before have written. Nothing is trained or scored in it."""
    monkeypatch.chdir(tmp_path)
    save_tokenizer(tokenizer, paths.TOKENIZER)
    train, valid = (write_tokens(stories, tokenizer, path, 1) for path in (paths.TOKENS_TRAIN, paths.TOKENS_VALID))
    write_meta(tokenizer, train, valid)
    save_checkpoint(random_model(), paths.TOKENIZER, paths.CHECKPOINT)
    monkeypatch.setattr(training, "TrainStep", lambda *arguments: pytest.fail("the training begins"))
    monkeypatch.setattr(evaluation, "evaluate_loss", lambda *arguments: pytest.fail("the scoring begins"))
    yield tmp_path
    assert not (paths.RUN.exists() or paths.EVALUATION.exists() or paths.HISTORY.exists())


def lie(split: str, **values: Any) -> None:
    meta = TokenMeta.read()
    meta.model_copy(update={split: getattr(meta, split).model_copy(update=values)}).write()


def rewrite(path: Path, split: str, tokens: Any) -> None:
    """Other tokens, and a meta.json that agrees with them."""
    path.write_bytes(data := np.asarray(tokens, "<u2").tobytes())
    lie(split, tokens=len(tokens), sha256=hashlib.sha256(data).hexdigest())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def another_tokenizer(path: Path, stories: list[str]) -> None:
    save_tokenizer(train_tokenizer(stories[:40], 300, 1), path)


VALID = paths.TOKENS_VALID
Cases = dict[str, tuple[Callable[[list[str]], object], str]]  # what is changed, and what is said of it
BOTH: Cases = {
    "tokens": (lambda stories: lie("valid", tokens=50), "bytes, but meta.json says 50 tokens of 2 bytes"),
    "bytes": (
        lambda stories: lie("valid", bytes=5),
        "stories of [\\d,]+ bytes, but meta.json says 60 stories of 5 bytes",
    ),
    "stories": (lambda stories: lie("valid", stories=5), "60 stories of [\\d,]+ bytes, but meta.json says 5 stories"),
    "sha256": (lambda stories: lie("valid", sha256="0" * 64), "its sha256 is not the one in meta.json"),
    "odd length": (lambda stories: VALID.write_bytes(VALID.read_bytes()[:-1]), "bytes, but meta.json says"),
    "one bit": (lambda stories: flip_a_bit(VALID), "its sha256 is not the one in meta.json"),
    "beyond the vocabulary": (lambda stories: rewrite(VALID, "valid", [0, 300] * 20), "holds token 300, but the vocab"),
    "vocabulary": (
        lambda stories: TokenMeta.read().model_copy(update={"vocab_size": 301}).write(),
        "300 entries, but meta.json says 301",
    ),
    "not of the form": (
        lambda stories: write_json(paths.TOKENS_META, {"train": {}}),
        "meta.json: vocab_size is missing; run the stage",
    ),
    "no tokens": (lambda stories: VALID.unlink(), "no such file; run the stage tokenize_to_memmap"),
    "no meta": (lambda stories: paths.TOKENS_META.unlink(), "no such file; run the stage"),
}
TRAIN: Cases = {
    "valid of three tokens": (
        lambda stories: rewrite(VALID, "valid", [0, 5, 0]),
        "the valid stories have 3 tokens; model",
    ),
    "another tokenizer": (
        lambda stories: another_tokenizer(paths.TOKENIZER, stories),
        "not the tokenizer that the token files were made with",
    ),
}
EVALUATE: Cases = {
    "another tokenizer": (
        lambda stories: another_tokenizer(paths.CHECKPOINT / "tokenizer.json", stories),
        "not the tokenizer that the token files were made with",
    ),
    "one bit of the checkpoint": (
        lambda stories: flip_a_bit(paths.CHECKPOINT / "model.safetensors"),
        "altered since train wrote it",
    ),
    "another vocabulary": (
        lambda stories: save_checkpoint(
            GPT(ModelConfig(context_length=12, embedding_size=24, layers=3, heads=2), 299),
            paths.TOKENIZER,
            paths.CHECKPOINT,
        ),
        "a vocabulary of 299, but the tokens have 300",
    ),
}


def check(work: Callable[[], None], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        work()
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("case", BOTH | TRAIN)
def test_train_begins_with_nothing_that_does_not_fit(here, small_params: Params, stories, case):
    change, message = (BOTH | TRAIN)[case]
    change(stories)
    check(lambda: training.train(small_params, None), message)
    assert not (here / ".state").exists()


@pytest.mark.parametrize("case", BOTH | EVALUATE)
def test_evaluate_scores_nothing_that_does_not_fit(here, small_params: Params, stories, case):
    change, message = (BOTH | EVALUATE)[case]
    change(stories)
    check(lambda: evaluation.evaluate(small_params), message)


def test_what_fits_is_taken(here, small_params: Params):
    """So that the refusals above are for what they say."""
    with pytest.raises(pytest.fail.Exception, match="the training begins"):
        training.train(small_params, None)
    with pytest.raises(pytest.fail.Exception, match="the scoring begins"):
        evaluation.evaluate(small_params)
