"""Whether the model that `train.init_from` names has the shape that params.yaml says."""

from pathlib import Path

from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.reading import read_json
from tinystories.common.urls import REGISTERED_MODEL

# Keys of params.yaml, and those of config.json.
_SHAPE = {
    "tokenizer.vocab_size": "vocab_size",
    "model.context_length": "max_position_embeddings",
    "model.embedding_size": "hidden_size",
    "model.layers": "num_hidden_layers",
    "model.heads": "num_attention_heads",
}


def refuse_other_shape(params: Params, directory: Path) -> None:
    """Compare a checkpoint directory's config.json with params.yaml. Errors: UserError with the options that fit."""
    if not directory.is_dir():
        found = "a file" if directory.exists() else "no such directory"
        raise UserError(f"train.init_from is {str(directory)!r}: {found}; it should be a checkpoint directory")
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{directory}: no checkpoint, for it has no config.json (train.init_from)")
    stored = read_json(path)
    for name in _SHAPE.values():
        if type(stored.get(name)) is not int:
            raise UserError(f"{path}: not of a model that train makes (its {name} is {stored.get(name)})")
    wanted = {"tokenizer": params.tokenizer.model_dump(), "model": params.model.model_dump()}
    differing = {}
    for key, name in _SHAPE.items():
        section, _, field = key.partition(".")
        if (here := wanted[section][field]) != stored[name]:
            differing[key] = (here, stored[name])
    if differing:
        found = ", ".join(f"{key} is {here} and its own {its}" for key, (here, its) in differing.items())
        options = " ".join(f"-S {key}={its}" for key, (_, its) in differing.items())
        raise UserError(f"train.init_from is {params.train.init_from!r}; {found}; run: dvc exp run {options}")


def refuse_other_directory(params: Params) -> None:
    """Refuse what `train.init_from` names before any work, as far as that is seen without a network."""
    init_from = params.train.init_from
    if init_from and not REGISTERED_MODEL.fullmatch(init_from):
        refuse_other_shape(params, Path(init_from))
