"""Fixtures of a tiny checkpoint of random weights, which says odd things. A conftest.py imports those that it needs."""

from pathlib import Path

import pytest

from tinystories.model.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def checkpoint(random_model, tokenizer_file, tmp_path_factory) -> Path:
    """For reading only."""
    directory: Path = tmp_path_factory.mktemp("model") / "checkpoint"
    save_checkpoint(random_model(), tokenizer_file, directory)
    return directory


@pytest.fixture
def here(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with the checkpoint in models/."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models/checkpoint").symlink_to(checkpoint)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path
