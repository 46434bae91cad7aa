"""The run key: a hash of all that decides the result of a training.

Two trainings with the same key end with the same bits. So they are one run in MLflow, and one may resume where the
other stopped.
"""

import hashlib
import json
from pathlib import Path

from tinystories.common.artifacts import Parent, TokenMeta
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.training.conditions import Conditions

PACKAGE = Path(__file__).resolve().parents[1]
# The code that decides the result: whole folders, and files. Code that checks files, shows progress or talks to MLflow
# is left out.
CODE = (
    "model", "inference", "training",
    "tokenization/token_files.py", "common/epochs.py", "common/params.py",
    "common/param_types.py", "common/special_tokens.py",
)  # fmt: skip

# Parameters of `train` that do not decide the result, or whose resolved value is among the conditions.
# `init_from` is a place; the weights that were there are in the key.
EXCLUDED = {
    "device", "precision", "compile", "devices", "micro_batch_size", "init_from",
    "save_every", "kept_trunks", "kept_trunk_gigabytes",
}  # fmt: skip
# Parameters of `train` that do not decide what the steps before the cooldown compute.
AFTER_TRUNK = {"epochs", "steps_per_epoch", "cooldown", "log_every"}


def training_identity(params: Params, meta: TokenMeta, parent: Parent | None = None) -> str:
    """Hash parameters, data, code and the weights that the training goes on from: 64 hexadecimal digits."""
    return _identity(params, meta, parent, EXCLUDED)


def trunk_identity(params: Params, meta: TokenMeta, parent: Parent | None = None) -> str:
    """Hash what `training_identity` does, without what decides only the training's length: see `trunk`."""
    return _identity(params, meta, parent, EXCLUDED | AFTER_TRUNK)


def _identity(params: Params, meta: TokenMeta, parent: Parent | None, excluded: set[str]) -> str:
    parts = {
        "seed": params.seed,
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude=excluded),
        "tokens": [meta.tokenizer_sha256, meta.train.sha256, meta.valid.sha256, meta.valid.bytes],
        "code": {path.relative_to(PACKAGE).as_posix(): sha256_of(path) for path in code_files()},
        **({"parent": parent.sha256} if parent else {}),
    }
    return _hash(parts)


def training_key(identity: str, conditions: Conditions) -> str:
    """Hash a training's identity together with its conditions: the run key, 64 hexadecimal digits."""
    return _hash([identity, dict(conditions)])


def code_files() -> list[Path]:
    """The source files in `CODE`, Python and C++, sorted."""
    found = [PACKAGE / name for name in CODE if name.endswith(".py")]
    for name in CODE:
        found += [path for path in (PACKAGE / name).rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    return sorted(found)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
