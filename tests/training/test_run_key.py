"""The run key: what changes it, and what does not."""

import re
import shutil
from typing import Any

import pytest

from tests.support.imports import closure, is_empty
from tests.support.repository import ROOT
from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.params import Params
from tinystories.training import run_key as module
from tinystories.training.conditions import Conditions
from tinystories.training.run_key import (
    AFTER_TRUNK,
    CODE,
    PACKAGE,
    code_files,
    training_identity,
    training_key,
    trunk_identity,
)

TRACKING = [
    path.stem
    for path in closure(ROOT / "stages/train.py")
    if path.parent == ROOT / "src/tinystories/tracking" and not is_empty(path)
]
CPU: Conditions = {"device": "cpu", "precision": "fp32", "compiled": False, "torch": "2.13.0", "threads": 2}
META = TokenMeta(
    vocab_size=300,
    tokenizer_sha256="a" * 64,
    train=TokenFile(tokens=1_000, stories=10, bytes=4_000, sha256="b" * 64),
    valid=TokenFile(tokens=100, stories=1, bytes=400, sha256="c" * 64),
)

# Files that `stages/train.py` imports, but that cannot change a bit of the result.
EXEMPT = {
    "common/artifact_errors.py": "words",
    "common/artifacts.py": "the form of the files, checked as they are written",
    "common/console.py": "only shows",
    "common/cores.py": "the number of threads is among the conditions",
    "common/corpus_figures.py": "says what the text is like; the tokens are in the key",
    "common/errors.py": "an exception",
    "common/files.py": "writes files whole",
    "common/mlflow_limits.py": "what MLflow takes",
    "common/params_file.py": "reads params.yaml, whose values are in the key",
    "common/parent_shape.py": "refuses a parent; the weights of one are in the key",
    "common/paths.py": "names of files",
    "common/reading.py": "parses files, or refuses them",
    "common/signals.py": "when to stop, not what comes out",
    "common/stage.py": "the frame of a stage",
    "common/story_figures.py": "says how the model's stories are judged, after the training",
    "common/strict_yaml.py": "reads params.yaml, whose values are in the key",
    "common/urls.py": "where MLflow is",
    "tokenization/tokenizer.py": "its result is in the key, as the sha256 of the tokenizer and of the tokens",
    **{f"tracking/{name}.py": "tells MLflow" for name in TRACKING},
}


def key_of(params: Params, meta: TokenMeta = META, conditions: Conditions = CPU) -> str:
    return training_key(training_identity(params, meta), conditions)


def changed(params: Any, path: str, value: Any) -> Any:
    name, _, rest = path.partition(".")
    return params.model_copy(update={name: changed(getattr(params, name), rest, value) if rest else value})


def test_training_key_repeats(small_params):
    assert key_of(small_params) == key_of(small_params.model_copy(deep=True))
    assert re.fullmatch("[0-9a-f]{64}", key_of(small_params))


WITH_EFFECT = {
    "seed": 6,
    "model.context_length": 13,
    "model.embedding_size": 28,
    "model.layers": 4,
    "model.heads": 3,
    "train.batch_size": 5,
    "train.epochs": 3,
    "train.steps_per_epoch": 11,
    "train.learning_rate": 0.03,
    "train.embedding_learning_rate": 0.005,
    "train.warmup_steps": 2,
    "train.cooldown": 0.4,
    "train.weight_decay": 0.1,
    "train.gradient_clip": 2.0,
    "train.deterministic": True,
    "train.log_every": 21,
}
WITHOUT_EFFECT = {
    "train.save_every": 1.0,
    "train.kept_trunks": 0,
    "train.kept_trunk_gigabytes": 1.0,
    "train.init_from": "data/own/parent/model",  # a place; the weights there are in the key
    "train.device": "auto",  # what they resolve to is in the key, not what was asked for
    "train.precision": "auto",
    "train.compile": "off",
    "train.devices": 2,
    "train.micro_batch_size": 2,
    "sample.top_k": 41,  # samples are no output of the training
    "sample.temperature": 0.9,
    "sample.max_new_tokens": 21,
    "sample.prompts": ("Other",),
    "evaluate.batch_size": 1,
    "evaluate.precision": "bf16",
    "evaluate.stories": 7,
    "evaluate.max_bits_per_byte": 9.0,
    "mlflow.experiment": "other",
    "mlflow.tracking_uri": "http://localhost:1",
    "publish.model": "best",
    "tokenizer.vocab_size": 301,  # the tokens themselves are in the key
    "data.source": "embedded",
}


@pytest.mark.parametrize(("path", "value"), {**WITH_EFFECT, **WITHOUT_EFFECT}.items())
def test_trunk_identity_leaves_out_what_decides_the_length(small_params, path, value):
    same = path in WITHOUT_EFFECT or path.removeprefix("train.") in AFTER_TRUNK
    found = trunk_identity(changed(small_params, path, value), META)
    assert (found == trunk_identity(small_params, META)) == same
    assert found != training_identity(small_params, META)


@pytest.mark.parametrize(("path", "value"), WITH_EFFECT.items(), ids=WITH_EFFECT)
def test_training_key_changes_with_what_decides_the_result(small_params, path, value):
    assert key_of(changed(small_params, path, value)) != key_of(small_params)


@pytest.mark.parametrize(("path", "value"), WITHOUT_EFFECT.items(), ids=WITHOUT_EFFECT)
def test_training_key_stays_with_what_does_not_decide_it(small_params, path, value):
    other = changed(small_params, path, value)
    assert other != small_params
    assert key_of(other) == key_of(small_params)


def test_lists_hold_every_parameter(small_params):
    sections = ("model", "train", "sample", "evaluate", "mlflow", "publish", "tokenizer")
    paths = {f"{section}.{key}" for section in sections for key in type(getattr(small_params, section)).model_fields}
    assert paths | {"seed", "data.source"} == WITH_EFFECT.keys() | WITHOUT_EFFECT.keys()


OTHER_TOKENS = {
    "tokenizer": changed(META, "tokenizer_sha256", "d" * 64),
    "train": changed(META, "train.sha256", "d" * 64),
    "valid": changed(META, "valid.sha256", "d" * 64),
    "bytes": changed(META, "valid.bytes", 401),
}


@pytest.mark.parametrize("meta", OTHER_TOKENS.values(), ids=OTHER_TOKENS)
def test_training_key_changes_with_tokens(small_params, meta):
    assert key_of(small_params, meta) != key_of(small_params)


@pytest.mark.parametrize("name", CPU)
def test_training_key_changes_with_conditions(small_params, name):
    assert key_of(small_params, conditions={**CPU, name: "other"}) != key_of(small_params)
    assert key_of(small_params, conditions={n: value for n, value in CPU.items() if n != name}) != key_of(small_params)


@pytest.mark.parametrize("name", [path.relative_to(PACKAGE).as_posix() for path in code_files()])
def test_training_key_changes_with_code(small_params, monkeypatch, tmp_path, name):
    shutil.copytree(PACKAGE, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(module, "PACKAGE", tmp_path)
    before = key_of(small_params)
    (tmp_path / "common/console.py").write_text("# other\n")
    assert key_of(small_params) == before
    with (tmp_path / name).open("a") as file:
        file.write("# other\n")
    assert key_of(small_params) != before


def test_code_files_are_all_that_training_imports_but_exempt():
    code = set(code_files())
    assert all((PACKAGE / name).exists() for name in CODE)
    imported = {path for path in closure(ROOT / "stages/train.py") if not is_empty(path)} - {ROOT / "stages/train.py"}
    assert {path.relative_to(PACKAGE).as_posix() for path in imported - code} == EXEMPT.keys()
    rest = {path.relative_to(PACKAGE).as_posix() for path in code - imported if not is_empty(path)}
    assert rest == {"training/follower.py"}  # a process that `launch` starts
