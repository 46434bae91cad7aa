"""The model card: for whoever gets the model, without this project and without the machine it was trained on."""

import pytest
import yaml

from tinystories.common import paths
from tinystories.common.artifacts import Evaluation, Manifest, Parent, Run
from tinystories.common.params import Params
from tinystories.reporting.model_card import write_model_card


def card(params: Params) -> str:
    write_model_card(params)
    return paths.MODEL_CARD.read_text()


def test_write_model_card_has_what_a_user_needs(run, params):
    text = card(params)
    for part in (
        "# GPT, 8.9 M parameters, on own documents · 163.8 K tokens\n",
        "Validation loss 1.2346, perplexity 3.44, 0.4322 bits per byte. It saw 163,840 tokens in 40 steps.",
        'pipeline("text-generation", "models/checkpoint")',
        "It sees 128 tokens at once. `max_length`",
        "The documents are the user's own.",
        "2,000,000",
        "abab" * 3,
        "documents |",
        "| train.learning_rate ",
    ):
        assert part in text
    assert "secret" not in text


def test_write_model_card_is_of_the_published_model(run, params):
    best = {"best_epoch": 1, "best_valid_loss": 1.2, "best_valid_ppl": 3.3201, "best_valid_bits_per_byte": 0.42}
    Evaluation.read().model_copy(update=best).write()
    assert "Validation loss 1.2346, perplexity 3.44, 0.4322 bits per byte. It saw 163,840 tokens" in card(params)
    text = card(params.model_copy(update={"publish": params.publish.model_copy(update={"model": "best"})}))
    assert "Validation loss 1.2000, perplexity 3.32, 0.4200 bits per byte. It saw 81,920 tokens in 20 steps:" in text
    assert "this is epoch 1, which had the lowest validation loss; the training went on to 163,840 tokens" in text
    assert 'pipeline("text-generation", "models/best")' in text


def test_write_model_card_names_the_parent(run, params):
    assert "its weights were trained from nothing." in card(params)
    parent = Parent(init_from="models:/tinystories@champion", sha256="ab" * 32)
    Run.read().model_copy(update={"parent": parent}).write()
    text = card(params)
    assert "went on from another model, `models:/tinystories@champion` (sha256 of its weights abababababababab)" in text
    assert "from nothing" not in text


def test_write_model_card_holds_no_times_and_no_machine(run, params):
    text = card(params)
    for part in ("2026", "EPYC", "9f9f", "odd-name", "1:02:05", "a1b2"):
        assert part not in text


@pytest.mark.parametrize(
    ("source", "datasets", "words"),
    [
        ("tinystories", ["roneneldan/TinyStories"], "CDLA-Sharing-1.0"),
        ("embedded", None, "project's own generator"),
        ("files", None, "has to know what their licence allows"),
    ],
)
def test_write_model_card_names_the_licence(run, params, source, datasets, words):
    Manifest.read().model_copy(update={"source": source, "detail": {}}).write()
    text = card(params)
    head = yaml.safe_load(text.split("---")[1])
    assert head["pipeline_tag"] == "text-generation"
    assert head.get("datasets") == datasets
    assert words in text
