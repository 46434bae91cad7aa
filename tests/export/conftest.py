"""A model whose every weight matters, with a tokenizer of real words, as a checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tinystories.common.params import ModelConfig
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.sources.storygen import stories as generate_stories
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return list(generate_stories(0, 0, 300))


@pytest.fixture(scope="session")
def model(random_model: Callable[..., GPT]) -> GPT:
    return random_model(ModelConfig(context_length=64, embedding_size=64, layers=2, heads=4), 600)


@pytest.fixture(scope="session")
def checkpoint(model: GPT, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    # Other programs know other ways to cut numbers and lines: merges of these show the difference.
    learned = [*texts, *["1234567", "!!!???\n\n\n", "x_y.z"] * 500]
    save_tokenizer(train_tokenizer(learned, 600, total_bytes=1), directory / "tokenizer.json")
    save_checkpoint(model, directory / "tokenizer.json", directory / "checkpoint")
    return directory / "checkpoint"
