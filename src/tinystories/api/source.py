"""Where a model comes from: a checkpoint directory, or an address in MLflow's registry."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.reading import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tinystories.model.gpt import GPT

_ARCHITECTURE = "Qwen3ForCausalLM"


def read_model(source: str) -> "tuple[GPT, Tokenizer, dict[str, object]]":
    """Read weights, tokenizer and generation_config.json from a directory, or from `models:/...`. Errors: UserError."""
    with checkpoint_directory(source) as directory:
        return _read_checkpoint(directory)


@contextmanager
def checkpoint_directory(source: str) -> Iterator[Path]:
    """Give the directory that `source` names; what is downloaded goes after the block. Errors: UserError."""
    if not source.startswith("models:"):
        yield Path(source)
        return
    from tinystories.common.params_file import load_params
    from tinystories.tracking.mlflow_registry import registered_checkpoint
    from tinystories.tracking.mlflow_store import tracking_uri

    root = paths.repository_root()
    parameters = root / paths.PARAMS
    configured = load_params(parameters).mlflow.tracking_uri if parameters.exists() else ""
    with registered_checkpoint(source, tracking_uri(configured, root)) as directory:
        yield directory


def _read_checkpoint(directory: Path) -> "tuple[GPT, Tokenizer, dict[str, object]]":
    from tinystories.model.checkpoint import load_checkpoint
    from tinystories.tokenization.tokenizer import load_tokenizer_of

    if not directory.is_dir():
        found = "a file" if directory.exists() else "no such directory"
        raise UserError(
            f"{directory}: {found}; it should be a checkpoint directory, as models/checkpoint is after "
            "`make quickstart`, or a model's address such as models:/NAME@ALIAS"
        )
    config = directory / "config.json"
    if not config.exists():
        raise UserError(f"{directory}: no checkpoint, for it has no config.json; one that train wrote is wanted")
    if (architectures := read_json(config).get("architectures")) != [_ARCHITECTURE]:
        raise UserError(
            f"{config}: its architectures are {architectures}; only a {_ARCHITECTURE} as train writes it is read"
        )
    gpt = load_checkpoint(directory)
    tokenizer = load_tokenizer_of(directory, gpt.vocab_size)
    generation = directory / "generation_config.json"
    return gpt, tokenizer, read_json(generation) if generation.exists() else {}
