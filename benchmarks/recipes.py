"""The recipes that quality.py compares: what each one computes, and how to train with it.

ours      the library with params.yaml as it is, or with values changed for a search
gpt2      the GPT-2 baseline: a GPT-2 style model with AdamW (gpt2_style.py)
baseline  the public baseline (public_baseline.py)
"""

import ast
import hashlib
import json
from collections.abc import Callable
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor

from benchmarks import gpt2_style, public_baseline
from benchmarks.stories import ROOT, Stories
from benchmarks.workload import committed_params
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.reading import read_json
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray
from tinystories.training.backend import Backend
from tinystories.training.batches import IntArray, WindowSampler
from tinystories.training.step import TrainStep

RATES = {"gpt2": 1e-3, "baseline": public_baseline.LEARNING_RATE}  # peak learning rates of those outside the library
RECIPES = ("ours", *RATES)
WARMUP = 0.01  # share of the steps, for the library's own: params.yaml has the number of the reference run's
SHAPES = {
    "reference": {"context_length": 128, "embedding_size": 256, "layers": 8, "heads": 16},
    "small": {"context_length": 128, "embedding_size": 128, "layers": 4, "heads": 8},
}
# What changes how a training runs, not what it computes.
NOT_RECIPE = {"epochs", "steps_per_epoch", "device", "precision", "compile", "log_every", "save_every"}
NOT_RECIPE |= {"kept_trunks", "kept_trunk_gigabytes"}
# The library's trainings are told apart by the golden losses, which a test holds the code to; those of the other
# recipes by the code that decides them.
SOURCES = {
    "gpt2": ["benchmarks/gpt2_style.py", "src/tinystories/model/attention.py", "src/tinystories/training/batches.py"],
    "baseline": ["benchmarks/public_baseline.py"],
}
GOLDEN = ROOT / "tests/training/golden/cpu-fp32.json"

Step = Callable[[int], Tensor]  # trains on the batch of a step (from 0) and returns its loss, shape ()
Batches = Callable[[int], tuple[IntArray, IntArray]]  # inputs and targets of a step


def make_params(recipe: str, steps: int, seed: int, shape: str, overrides: dict[str, Any]) -> Params:
    """params.yaml, as git has it, for a recipe; `overrides` by dotted key, for the library's own.

    Errors: UserError where a key or a value is not valid.
    """
    values = committed_params().model_dump()
    values["seed"] = seed
    values["model"] |= SHAPES[shape]
    values["train"] |= {"batch_size": 32, "epochs": 1, "steps_per_epoch": steps, "compile": "on"}
    values["train"]["warmup_steps"] = round(WARMUP * steps)
    if overrides and recipe != "ours":
        raise UserError(f"--set is for ours; {recipe} has only --lr")
    for key, value in overrides.items():
        section, _, name = key.partition(".")
        if section not in ("model", "train") or not name:
            raise UserError(f"--set {key}: expected a key like train.learning_rate or model.heads")
        values[section][name] = value
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise UserError(f"{recipe}: {key} is {problem['input']!r}: {problem['msg']}") from None


def describe(recipe: str, params: Params, learning_rate: float, stories: Stories, precision: str) -> dict[str, Any]:
    """What one training computes, and `identity`, a hash of all of that: two of one identity end with equal weights."""
    ours = recipe == "ours"
    settings = params.train.model_dump(exclude=NOT_RECIPE) if ours else {"learning_rate": learning_rate}
    row: dict[str, Any] = {
        "steps": params.train.steps,
        "seed": params.seed,
        "model": params.model.model_dump(),
        "settings": {"batch_size": params.train.batch_size, **settings},
        "stories": stories.key,
        "precision": precision,
        "source": source_hash(recipe),
    }
    return {"identity": hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16], **row}


def source_hash(of: str) -> str:
    """Hash what tells its trainings from others': 12 hexadecimal digits. Comments and docstrings change nothing."""
    digest = hashlib.sha256()
    if of == "ours":
        digest.update(json.dumps(read_json(GOLDEN)["losses"]).encode())
    for path in SOURCES.get(of, []):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(ast.dump(tree).encode())
    return digest.hexdigest()[:12]


def prepare(
    recipe: str, params: Params, learning_rate: float, stories: Stories, backend: Backend
) -> tuple[Step, torch.nn.Module]:
    """The training step of a recipe, and the model that it trains."""
    tokens, shape, batch_size = stories.tokens("train"), params.model, params.train.batch_size
    if recipe == "ours":
        train_step = TrainStep(params, stories.vocab_size, tokens, backend)
        train_step.initialize()

        def library_step(number: int) -> Tensor:
            train_step.loss_sum.zero_()
            train_step.step(number)
            return train_step.loss_sum

        return library_step, train_step.model
    if recipe == "gpt2":
        gpt2 = gpt2_style.GPT2Style(shape, stories.vocab_size, params.seed, backend.dtype).to(backend.device)
        update = gpt2_style.trainer(gpt2, params.train.steps, learning_rate, backend.compiled)
        batch: Batches = windows_without_replacement(tokens, params)
        model: torch.nn.Module = gpt2
    else:
        baseline = public_baseline.PublicBaseline(shape, stories.vocab_size, params.seed, backend.dtype)
        model = baseline.to(backend.device)
        update = public_baseline.trainer(baseline, learning_rate, backend.compiled)
        batch = public_baseline.random_windows(tokens, shape.context_length, batch_size, params.seed)

    def step(number: int) -> Tensor:
        inputs, targets = (torch.from_numpy(ids).to(backend.device) for ids in batch(number))
        return update(number, inputs, targets)

    return step, model


def windows_without_replacement(tokens: TokenArray, params: Params) -> Batches:
    """The batches that the library trains on."""
    windows = WindowSampler(tokens, params.model.context_length, params.train.batch_size, params.seed)

    def batch(number: int) -> tuple[IntArray, IntArray]:
        rows = windows.batches(number, 1)[0]
        return rows[:, :-1], rows[:, 1:]

    return batch


def for_scoring(model: torch.nn.Module) -> GPT:
    """The model as `evaluate_loss` takes it, computing in fp32; of a GPT it needs only config, embedding and loss."""
    model.eval()
    scored = cast(GPT, model)
    scored.compute_dtype = torch.float32  # the trained weights are fp32
    return scored
