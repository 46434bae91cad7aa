"""The stage `evaluate`: its samples, inputs it refuses to score, and a device that fails."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.support.device_errors import CUDA_MEMORY, DEVICE_ERRORS
from tests.support.wrong_inputs import TOKENS, Cases, flip_a_bit, refuses, replace_tokenizer
from tinystories.common import paths
from tinystories.common.artifacts import EpochIndex, Evaluation
from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig, Params
from tinystories.evaluation import evaluate as module
from tinystories.evaluation.evaluate import evaluate
from tinystories.inference.loss_eval import evaluate_loss
from tinystories.inference.samples import render_samples
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT


@pytest.fixture(autouse=True)
def here(workspace: Path, random_model: Callable[..., GPT]) -> Path:
    """The current directory with token files, a checkpoint, and the weights after two of the three epochs before."""
    for number, directory in enumerate((paths.CHECKPOINT, paths.epoch_checkpoint(1), paths.epoch_checkpoint(3))):
        save_checkpoint(random_model(seed=number), paths.TOKENIZER, directory)
    EpochIndex(epochs=[1, 3, 4], best=4).write()
    return workspace


@pytest.fixture
def no_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "evaluate_loss", lambda *_: pytest.fail("the scoring begins"))


CASES: Cases = TOKENS | {
    "another tokenizer": (
        lambda stories: replace_tokenizer(paths.CHECKPOINT / "tokenizer.json", stories),
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


@pytest.mark.parametrize("case", CASES)
def test_evaluate_refuses_inputs_that_do_not_match(no_scoring, small_params: Params, stories, case):
    change, message = CASES[case]
    change(stories)
    refuses(lambda: evaluate(small_params), message)
    assert not paths.EVALUATION.exists()


def test_evaluate_takes_inputs_that_match(no_scoring, small_params: Params):
    """So that each refusal above has the reason it gives."""
    with pytest.raises(pytest.fail.Exception, match="the scoring begins"):
        evaluate(small_params)


@pytest.mark.filterwarnings("default")  # those of transformers
def test_evaluate_scores_what_transformers_saved(small_params: Params):
    evaluate(small_params)
    own = paths.EVALUATION.read_text()
    theirs = AutoModelForCausalLM.from_pretrained(paths.CHECKPOINT)
    tokenizer = AutoTokenizer.from_pretrained(paths.CHECKPOINT)
    theirs.save_pretrained(paths.CHECKPOINT)
    tokenizer.save_pretrained(paths.CHECKPOINT)
    paths.EVALUATION.unlink()
    evaluate(small_params)
    assert paths.EVALUATION.read_text() == own


def test_evaluate_writes_the_samples_of_each_kept_epoch(small_params: Params, random_model, tokenizer):
    def page(weights: int, title: str) -> str:
        return render_samples(random_model(seed=weights), tokenizer, small_params.sample, small_params.seed, title)

    evaluate(small_params)
    assert {path.name: path.read_bytes().decode() for path in paths.SAMPLES.iterdir()} == {
        "epoch_1.md": page(1, "Samples after epoch 1"),
        "epoch_3.md": page(2, "Samples after epoch 3"),
        "epoch_4.md": page(0, "Samples after epoch 4"),
        "final.md": page(0, "Final samples"),
    }


def test_evaluate_refuses_an_epoch_of_another_vocabulary(small_params: Params):
    config = small_params.model
    save_checkpoint(GPT(config, 299), paths.TOKENIZER, paths.epoch_checkpoint(3))
    refuses(lambda: evaluate(small_params), "models/epochs/epoch_3: a vocabulary of 299, but the tokens have 300")


def test_evaluate_refuses_an_epoch_with_a_flipped_bit(small_params: Params):
    flip_a_bit(paths.epoch_checkpoint(3) / "model.safetensors")
    refuses(lambda: evaluate(small_params), "altered since train wrote it")


def publishing(params: Params, model: str) -> Params:
    return params.model_copy(update={"publish": params.publish.model_copy(update={"model": model})})


def test_evaluate_has_the_best_epoch_beside_the_last(small_params: Params, random_model, tokenizer):
    """Its samples and its limit are those of the model to publish."""
    evaluate(small_params)
    same = Evaluation.read()
    assert (same.best_epoch, same.best_valid_loss) == (4, same.valid_loss)
    assert same.of("best").model_dump() == same.model_dump()
    samples = paths.FINAL_SAMPLES.read_text()
    save_checkpoint(random_model(seed=2), paths.TOKENIZER, paths.BEST)
    EpochIndex(epochs=[1, 3, 4], best=3).write()
    evaluate(small_params)
    both = Evaluation.read()
    assert (both.valid_loss, both.best_epoch) == (same.valid_loss, 3)
    assert both.best_valid_loss != same.valid_loss
    assert both.of("best").valid_bits_per_byte == both.best_valid_bits_per_byte
    assert paths.FINAL_SAMPLES.read_text() == samples
    evaluate(publishing(small_params, "best"))
    assert Evaluation.read() == both
    best = render_samples(random_model(seed=2), tokenizer, small_params.sample, small_params.seed, "Final samples")
    assert paths.FINAL_SAMPLES.read_bytes().decode() == best
    assert paths.epoch_samples(4).read_text().partition("\n")[2] == samples.partition("\n")[2]

    figures = {"last": both.valid_bits_per_byte, "best": both.best_valid_bits_per_byte}
    better, worse = sorted(figures, key=lambda model: figures[model])
    limit = {"max_bits_per_byte": figures[better]}
    limited = small_params.model_copy(update={"evaluate": small_params.evaluate.model_copy(update=limit)})
    evaluate(publishing(limited, better))
    refuses(lambda: evaluate(publishing(limited, worse)), "^evaluate.max_bits_per_byte is ")


def test_evaluate_refuses_a_damaged_best_epoch(small_params: Params, random_model):
    save_checkpoint(random_model(seed=2), paths.TOKENIZER, paths.BEST)
    flip_a_bit(paths.BEST / "model.safetensors")
    EpochIndex(epochs=[1, 3, 4], best=3).write()
    refuses(lambda: evaluate(small_params), "models/best/model.safetensors: .*altered since train wrote it")


@pytest.mark.parametrize("text", ['{"epochs": [], "best": 1}', '{"epochs": [1]}', '{"epochs": "1"}', "{}", ""])
def test_evaluate_refuses_an_index_of_another_form(no_scoring, small_params: Params, text):
    paths.EPOCH_INDEX.write_text(text)
    refuses(lambda: evaluate(small_params), "models/epochs/index.json: ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError(CUDA_MEMORY), "out of memory (cannot allocate 20.00 MiB); lower evaluate.batch_size"),
        (DEVICE_ERRORS[0], "the device fails (CUDA error: unspecified launch failure)"),
        (None, "models/checkpoint: its validation loss is nan; run the stage train again"),
    ],
    ids=["memory", "device", "nan"],
)
def test_evaluate_fails_with_one_line(small_params: Params, monkeypatch, error, words):
    def troubled(*arguments, **more):
        if error:
            raise error
        found = evaluate_loss(*arguments, **more)
        return type(found)(float("nan"), found.tokens, found.text_bytes)

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate_loss", troubled)
        with pytest.raises(UserError) as caught:
            evaluate(small_params)
    assert words in str(caught.value) and len(str(caught.value).splitlines()) == 1
    assert not paths.EVALUATION.exists()
    evaluate(small_params)
    assert paths.EVALUATION.exists()
