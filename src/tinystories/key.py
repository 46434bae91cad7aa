"""The key of a training: a hash of all that decides its result.

Two trainings of one key end with the same bits, so they are one run in the record, and one may go on where the other
stopped.
"""

import hashlib
import json
from pathlib import Path

from tinystories.conditions import Conditions
from tinystories.files import sha256_of
from tinystories.params import Params
from tinystories.tokens import TokenMeta

# The files whose code decides the result. Not in it: what reads and checks files, what shows, what tells MLflow.
CODE = (
    "attention.py", "backend.py", "cross_entropy.py", "decoder.py", "engine.py", "fast_decoder.py",
    "fused_optimizer.py", "fused_step.py", "generation.py", "kernels/__init__.py", "kernels/attention.cpp",
    "kernels/attention_gpu.py", "kernels/cross_entropy.cpp", "kernels/decoder.cpp", "kernels/optimizer_gpu.py",
    "kernels/pointwise_gpu.py", "kernels/vectors.h", "launching.py", "model.py", "optimizer.py", "params.py",
    "samples.py", "scoring.py", "tokens.py", "training.py", "windows.py",
)  # fmt: skip

# These change how a training runs on the way, but not what comes out.
_WITHOUT_EFFECT = {"device", "precision", "compile", "save_every"}


def training_identity(params: Params, meta: TokenMeta) -> str:
    """Hash what is to be trained, on what, by which code: 64 hexadecimal digits."""
    parts = {
        "seed": params.seed,
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude=_WITHOUT_EFFECT),
        "sample": params.sample.model_dump(),
        "tokens": [meta.tokenizer_sha256, meta.train.sha256, meta.valid.sha256, meta.valid.bytes],
        "code": {name: sha256_of(Path(__file__).parent / name) for name in CODE},
    }
    return _hash(parts)


def training_key(identity: str, conditions: Conditions) -> str:
    """Hash a training's identity together with what computes it: the key, 64 hexadecimal digits."""
    return _hash([identity, dict(conditions)])


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
