"""The typed files between stages: they come back as written, and what is not of their form is refused in one line."""

import json
from typing import Any

import pytest

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, Manifest, StoryFile, TokenFile, TokenMeta
from tinystories.common.errors import UserError

SHA256 = "ab" * 32
TOKENS = TokenFile(tokens=900, stories=3, bytes=2_000, sha256=SHA256)
META = TokenMeta(vocab_size=300, tokenizer_sha256=SHA256, train=TOKENS, valid=TOKENS)
STORIES = StoryFile(bytes=2_000, stories=3, sha256=SHA256)
MANIFEST = Manifest(source="embedded", detail={"seed": 1}, train=STORIES, valid=STORIES)
EPOCH = EpochRow(
    epoch=1, train_loss=1.5, train_ppl=4.48, valid_loss=1.6, valid_ppl=4.95, valid_bits_per_byte=0.5, step=10,
    tokens=640, seconds=1.25,
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_meta(values: dict[str, Any]) -> None:
    paths.TOKENS_META.parent.mkdir(parents=True)
    paths.TOKENS_META.write_text(json.dumps(values))


def changed(field: str, *value: Any) -> dict[str, Any]:
    """The contents of meta.json with this field set to a value, or removed."""
    values = META.model_dump()
    *section, name = field.split(".")
    target = values[section[0]] if section else values
    del target[name]
    target.update({name: value[0]} if value else {})
    return values


def refusal() -> str:
    with pytest.raises(UserError) as caught:
        TokenMeta.read()
    message = str(caught.value)
    assert message.startswith("data/tokens/meta.json: ") and message.isprintable()
    return message


@pytest.mark.parametrize("content", [META, MANIFEST], ids=["meta", "manifest"])
def test_json_file_comes_back(content):
    content.write()
    assert content.read() == content
    assert content.read(content.PATH.absolute()) == content


def test_json_file_missing():
    with pytest.raises(UserError, match=r"^data/tokens/meta.json: no such file"):
        TokenMeta.read()


@pytest.mark.parametrize("count", [0, -1, "5", 5.0, True, None, [], 2**53 + 1])
@pytest.mark.parametrize("field", ["vocab_size", "train.tokens", "train.stories", "train.bytes", "valid.tokens"])
def test_token_meta_refuses_what_is_no_count(field, count):
    write_meta(changed(field, count))
    message = refusal()
    assert f"meta.json: {field} is {count!r}, expected " in message
    assert message.endswith("run the stage that writes it again (dvc repro -f -s tokenize_to_memmap)")


@pytest.mark.parametrize("field", ["vocab_size", "tokenizer_sha256", "train", "valid", "train.sha256", "valid.bytes"])
def test_token_meta_missing_field(field):
    write_meta(changed(field))
    assert f"meta.json: {field} is missing; " in refusal()


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        (None, "train is None, expected an object"),
        (5, "train is 5, expected an object"),
        ([], "train is [], expected an object"),
        ("train", "train is 'train', expected an object"),
        ({**TOKENS.model_dump(), "sha256": ""}, "train.sha256 is '', expected 64 hexadecimal digits"),
        ({**TOKENS.model_dump(), "sha256": SHA256 + "\n"}, "train.sha256 is "),
    ],
)
def test_token_meta_refuses_another_form(section, problem):
    write_meta({**META.model_dump(), "train": section})
    assert f"meta.json: {problem}" in refusal()


def test_unknown_keys_and_columns_are_ignored():
    """A later version may write more."""
    write_meta({**META.model_dump(), "more": 1, "train": {**TOKENS.model_dump(), "more": [1]}})
    assert TokenMeta.read() == META
    EpochRow.write_table([EPOCH])
    header, row = paths.EPOCHS.read_text().splitlines()
    paths.EPOCHS.write_text(f"{header},more\n{row},text\n")
    assert EpochRow.read_table() == [EPOCH]


def test_table_comes_back():
    rows = [EPOCH, EPOCH.model_copy(update={"epoch": 2, "train_loss": 0.1 + 0.2})]
    EpochRow.write_table(rows)
    assert EpochRow.read_table() == rows


@pytest.mark.parametrize("value", ["", "x", "-1", "nan", "inf", "1e16"])
def test_table_refuses_what_is_no_figure(value):
    EpochRow.write_table([EPOCH, EPOCH.model_copy(update={"train_loss": 1.75})])
    paths.EPOCHS.write_text(paths.EPOCHS.read_text().replace("1.75", value))
    with pytest.raises(UserError, match=rf"^reports/epochs.csv, row 2: train_loss is '{value}', expected ") as caught:
        EpochRow.read_table()
    assert str(caught.value).endswith("run the stage that writes it again (dvc repro -f -s train)")


def test_table_without_rows():
    EpochRow.write_table([])
    with pytest.raises(UserError, match=r"^reports/epochs.csv: no row below the header"):
        EpochRow.read_table()
