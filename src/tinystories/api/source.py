"""Where a model comes from: a checkpoint directory, or an address in MLflow's registry."""

from pathlib import Path
from typing import TYPE_CHECKING

from tinystories.common.errors import UserError
from tinystories.common.reading import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tinystories.model.gpt import GPT

_ARCHITECTURE = "Qwen3ForCausalLM"


def read_model(source: str) -> "tuple[GPT, Tokenizer, dict[str, object]]":
    """Read weights, tokenizer and generation_config.json from a directory, or from `models:/...`. Errors: UserError."""
    from tinystories.tracking.mlflow_registry import checkpoint_directory

    with checkpoint_directory(source) as directory:
        return _read_checkpoint(directory)


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
