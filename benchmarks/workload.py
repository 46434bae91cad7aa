"""The workload of every contender: one model config, one batch size, the same tokens; and the FLOPs of a step."""

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tinystories.common.params import ModelConfig, Params
from tinystories.common.params_file import load_params
from tinystories.tokenization.token_files import TOKEN_DTYPE, TokenArray

ROOT = Path(__file__).resolve().parent.parent

VOCABULARY = 10_000
REFERENCE = ModelConfig(context_length=128, embedding_size=256, layers=8, heads=16)
REFERENCE_BATCH = 32
TINY_VOCABULARY = 64
TINY = ModelConfig(context_length=16, embedding_size=16, layers=2, heads=2)
TINY_BATCH = 4


def committed_params() -> Params:
    """params.yaml as git has it, not as an experiment left it; as it lies where there is no git."""
    if shutil.which("git"):
        shown = subprocess.run(["git", "show", ":params.yaml"], cwd=ROOT, capture_output=True)
        if shown.returncode == 0:
            with tempfile.TemporaryDirectory() as directory:
                copy = Path(directory, "params.yaml")
                copy.write_bytes(shown.stdout)
                return load_params(copy)
    return load_params(ROOT / "params.yaml")


def benchmark_params(tiny: bool = False, **train: Any) -> Params:
    """params.yaml as git has it, with the model and batch of the reference run.

    `tiny` gives sizes for tests instead; keywords replace keys of the section `train`.
    """
    params = committed_params()
    config, batch = (TINY, TINY_BATCH) if tiny else (REFERENCE, REFERENCE_BATCH)
    changed = params.train.model_copy(update={"batch_size": batch, **train})
    return params.model_copy(update={"model": config, "train": changed, "seed": 1337})


def zipf_tokens(count: int, vocab_size: int, seed: int = 0) -> TokenArray:
    """Draw tokens by Zipf's law, which those of a text roughly follow. Shape: (count,).

    The speed of training does not depend on what the tokens say, and these are the same on every machine.
    """
    weights = 1 / np.arange(1, vocab_size + 1)
    drawn = np.random.default_rng(seed).random(count)
    return np.searchsorted(np.cumsum(weights / weights.sum())[:-1], drawn).astype(TOKEN_DTYPE)


def flops_per_step(matrix_weights: int, params: Params) -> float:
    """Floating-point operations of forward and backward pass: 6 · W + 6 · L · T · D for each of a step's tokens.

    Each of the W weights in a matrix product (the output's among them, a lookup not) costs a multiplication and an
    addition forward and twice that backward. Attention's two products cost 4 · D a query and key, and a causal query
    has T / 2 keys on average: 2 · L · T · D forward, three times that in all. Nothing else is counted.
    """
    config = params.model
    of_a_token = 6.0 * matrix_weights + 6.0 * config.layers * config.context_length * config.embedding_size
    return of_a_token * params.train.batch_size * config.context_length
