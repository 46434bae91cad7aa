"""The schema of params.yaml: the committed file, the sizes that follow from it, and which values are taken."""

from typing import Any

import pytest

from tests.support.params import COMMITTED, lines_by_key, load, put, refusal
from tests.support.repository import PARAMS
from tinystories.common.params_file import load_params

CONTRACT = """
    seed
    data.source data.engine data.tinystories.edition data.embedded.stories data.files.train
    data.files.valid data.files.column data.files.documents data.files.held_out
    tokenizer.vocab_size
    model.context_length model.embedding_size model.layers model.heads
    train.batch_size train.epochs train.steps_per_epoch train.learning_rate train.device train.precision train.compile
    sample.top_k sample.temperature sample.max_new_tokens sample.prompts
    mlflow.experiment mlflow.tracking_uri
    publish.model
""".split()


def test_committed_file_is_the_reference_run():
    params = load_params(PARAMS)
    assert (params.tokenizer.vocab_size, params.data.source, params.data.tinystories.edition) == (
        10_000,
        "tinystories",
        "v2",
    )
    model = params.model
    assert (model.context_length, model.embedding_size, model.layers, model.heads) == (128, 256, 8, 16)
    train = params.train
    assert (train.batch_size, train.epochs, train.steps_per_epoch, train.steps) == (32, 2, 20_000, 40_000)
    assert train.steps * train.batch_size * model.context_length == 163_840_000


def test_committed_file_has_the_keys_of_the_schema():
    def keys(section: Any, prefix: str = "") -> set[str]:
        inside = {f"{prefix}{key}": getattr(section, key) for key in type(section).model_fields}
        nested = (keys(value, f"{key}.") for key, value in inside.items() if hasattr(value, "model_fields_set"))
        return set(inside).union(*nested)

    assert keys(load_params(PARAMS)) == set(lines_by_key(COMMITTED))


def test_committed_file_has_the_contract():
    assert set(CONTRACT) <= set(lines_by_key(COMMITTED))


def test_committed_file_comments_every_value():
    lines = COMMITTED.splitlines()
    for key, number in lines_by_key(COMMITTED).items():
        code, _, comment = lines[number].partition(" #")
        is_section = code.rstrip().endswith(":") and key != "sample.prompts"
        assert is_section or comment.strip(), f"{key} has no comment"


def test_model_config_derived_sizes(tmp_path):
    model = load(tmp_path, COMMITTED).model
    assert (model.head_size, model.mlp_size) == (16, 704)


GOOD = [
    ("train.compile", "on", "on"),  # a bare `on` is true in YAML 1.1
    ("train.compile", "off", "off"),
    ("train.compile", "true", "on"),
    ("train.compile", "false", "off"),
    ("train.compile", '"on"', "on"),
    ("train.learning_rate", "1", 1.0),
    ("train.learning_rate", "1.0e-3", 0.001),
    ("train.learning_rate", "1.e-3", 0.001),
    ("train.learning_rate", ".5", 0.5),
    ("train.learning_rate", "+5.", 5.0),
    ("train.learning_rate", "1e-05", 0.00001),  # as DVC writes it for -S train.learning_rate=1e-5
    ("train.weight_decay", "-0.0", 0.0),
    ("train.weight_decay", "0", 0.0),
    ("checks.max_cut_stories", "0", 0.0),
    ("checks.max_mojibake", "0", 0.0),
    ("evaluate.stories", "0", 0),
    ("evaluate.max_bits_per_byte", "null", None),
    ("evaluate.max_bits_per_byte", "0.5", 0.5),
    ("train.warmup_steps", "0", 0),
    ("train.warmup_steps", "40001", 40_001),
    ("train.kept_trunks", "0", 0),
    ("train.kept_trunk_gigabytes", "0.5", 0.5),
    ("train.cooldown", "0", 0.0),
    ("train.gradient_clip", "0", 0.0),
    ("seed", "0", 0),
    ("seed", str(2**63 - 1), 2**63 - 1),
    ("tokenizer.vocab_size", "65536", 65536),
    ("sample.prompts", "[]", ()),
    ("sample.prompts", '["a \\"quoted\\" 🐉"]', ('a "quoted" 🐉',)),
    ("sample.prompts", "[No, yes, 2:08, 1.2.3]", ("No", "yes", "2:08", "1.2.3")),
    ("train.init_from", "", ""),  # null
    ("train.init_from", "data/own/parent/my model", "data/own/parent/my model"),
    ("train.init_from", "models:/my model/12", "models:/my model/12"),
    ("train.init_from", "models:/tinystories@champion", "models:/tinystories@champion"),
    ("mlflow.experiment", "off", "off"),  # as DVC writes it for -S mlflow.experiment=off
    ("mlflow.experiment", "'0200'", "0200"),
    ("mlflow.tracking_uri", "https://example.org", "https://example.org"),
    ("publish.model", "best", "best"),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD, ids=[f"{key} {text}" for key, text, _ in GOOD])
def test_load_params_takes_good_value(tmp_path, key, text, value):
    found: Any = load(tmp_path, put(key, text))
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("place", ["models/checkpoint", "data/own/parent/../../../models/epochs/epoch 1"])
def test_train_init_from_refuses_outputs_of_the_pipeline(tmp_path, place):
    """Another path is taken as it is; what DVC would see of it is another question."""
    name = place.split("/")[-1]
    quoted = f"'{place}'" if " " in place else place
    assert refusal(tmp_path, put("train.init_from", place)) == (
        f"train.init_from is {place!r}; it is among the outputs of the pipeline, which this run replaces; run: "
        f"cp -r {quoted} data/own/parent/ and give train.init_from=data/own/parent/{name}"
    )
    for elsewhere in ("/m/a b", "my/models/checkpoint"):
        assert load(tmp_path, put("train.init_from", elsewhere)).train.init_from == elsewhere


@pytest.mark.parametrize("address", ["https://bob:S3cret@host/m", "models:/a", "models:/a@b/c", "s3://a/b"])
def test_train_init_from_refuses_other_addresses(tmp_path, address):
    said = refusal(tmp_path, put("train.init_from", address))
    assert "it should be empty, models:/NAME@ALIAS, models:/NAME/VERSION, or a checkpoint directory" in said
    assert "S3cret" not in said and "cp -r" not in said


def test_data_source_files(tmp_path):
    text = put("data.source", "files").replace("train: data/own/train", "train: my")
    assert load(tmp_path, text).data.files.train == "my"
