"""The key of a training: a hash of all that decides its result.

Two trainings of one key end with the same bits, so they are one run in the record, and one may go on where the other
stopped.
"""

import hashlib
import json
from pathlib import Path

from tinystories.common.artifacts import TokenMeta
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.training.conditions import Conditions

PACKAGE = Path(__file__).resolve().parents[1]
# The code that decides the result: folders with all that is in them, and files. Not in it: what checks files, shows
# progress, talks to MLflow.
CODE = (
    "model", "inference", "training",
    "tokenization/token_files.py", "common/params.py", "common/special_tokens.py",
)  # fmt: skip

# These change how a training runs on the way, but not what comes out.
EXCLUDED = {"device", "precision", "compile", "save_every"}


def training_identity(params: Params, meta: TokenMeta) -> str:
    """Hash what is to be trained, on what, by which code: 64 hexadecimal digits."""
    parts = {
        "seed": params.seed,
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude=EXCLUDED),
        "sample": params.sample.model_dump(),
        "tokens": [meta.tokenizer_sha256, meta.train.sha256, meta.valid.sha256, meta.valid.bytes],
        "code": {path.relative_to(PACKAGE).as_posix(): sha256_of(path) for path in code_files()},
    }
    return _hash(parts)


def training_key(identity: str, conditions: Conditions) -> str:
    """Hash a training's identity together with what computes it: the key, 64 hexadecimal digits."""
    return _hash([identity, dict(conditions)])


def code_files() -> list[Path]:
    """The source files that `CODE` stands for, Python and C++, sorted."""
    found = [PACKAGE / name for name in CODE if name.endswith(".py")]
    for name in CODE:
        found += [path for path in (PACKAGE / name).rglob("*") if path.suffix in (".py", ".cpp", ".h")]
    return sorted(found)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
