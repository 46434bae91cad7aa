"""The tokenizer as it is read and used: any text comes back, others can load it, another form is refused."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tinystories.common.errors import UserError
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID, PUTS_END_OF_TEXT_FIRST
from tinystories.tokenization.tokenizer import load_tokenizer

# Text as it may come, and the pieces that could trip a tokenizer.
PIECES = st.sampled_from(
    [END_OF_TEXT, "<|endof", "|>", " ", "  ", "\n", "\r\n", "\0", "\x7f", "Ġ", "'s", "é", "🐉", "\ufeff"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(PIECES | st.text(max_size=3)).map("".join)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@given(text=TEXTS)
def test_encode_decode_any_text(tokenizer, text):
    assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text


@given(text=TEXTS.filter(lambda text: END_OF_TEXT not in text))
def test_encode_no_end_of_text_in_stories(tokenizer, text):
    assert END_OF_TEXT_ID not in encode(tokenizer, text)


def test_encode_end_of_text_one_token(tokenizer):
    assert encode(tokenizer, END_OF_TEXT) == [END_OF_TEXT_ID]


def test_load_tokenizer_same_as_other_libraries(tokenizer, tokenizer_file, stories):
    loaded = load_tokenizer(tokenizer_file)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    plain = Tokenizer.from_file(str(tokenizer_file))
    assert len(theirs) == 300
    for text in [*stories[:5], " a", "a  b\n\n", "🐉" + END_OF_TEXT]:
        ids = encode(tokenizer, text)
        assert encode(loaded, text) == encode(plain, text) == theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


def test_load_tokenizer_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer.json: no such file; run the stage train_tokenizer"):
        load_tokenizer(tmp_path / "tokenizer.json")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_tokenizer(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith("again") and message.isprintable() and len(message) < 400
    return message


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "\0", "cut", "not UTF-8", '{"model": {}, "model": {}}'])
def test_load_tokenizer_corrupt_file(tmp_path, tokenizer_file, damage):
    path = tmp_path / "tokenizer.json"
    whole = tokenizer_file.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "not UTF-8": b"\xff" + whole}.get(damage, damage.encode()))
    assert "not readable as JSON" in refusal(path) or "JSON list" in refusal(path) or "no model" in refusal(path)


def swapped(values: dict[str, Any]) -> None:
    vocabulary = values["model"]["vocab"]
    first = next(word for word, number in vocabulary.items() if number == 1)
    vocabulary[first], vocabulary[END_OF_TEXT] = 0, 1
    values["added_tokens"][0]["id"] = 1


def renamed(values: dict[str, Any]) -> None:
    values["added_tokens"][0]["content"] = "<|other|>"
    values["model"]["vocab"]["<|other|>"] = values["model"]["vocab"].pop(END_OF_TEXT)


def put(value: Any, *keys: str | int) -> Callable[[Any], None]:
    """The change that sets what `keys` lead to."""

    def change(values: Any) -> None:
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return change


ADDITIONS = {
    "padding": {"strategy": {"Fixed": 10**8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "x"},
    "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5},
    "post_processor": PUTS_END_OF_TEXT_FIRST,
}  # fmt: skip


@pytest.mark.parametrize("key", ADDITIONS)
def test_load_tokenizer_leaves_out_additions(tmp_path, tokenizer, key):
    """What transformers stores of its users' settings, 10 GB of padding say; and what `train` adds for transformers."""
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(tokenizer.to_str()), key: ADDITIONS[key]}))
    assert load_tokenizer(path).to_str() == tokenizer.to_str()


BYTE = "\u0120"  # as a byte-level BPE writes the space
OTHER_FORMS = [
    ("the end of the text elsewhere", swapped, "has no <|endoftext|> as entry 0"),
    ("no end of the text", renamed, "has no <|endoftext|> as entry 0"),
    # Those that tokenizers takes: letters lost without a word, other ids each time, 10 GB of padding, a panic.
    ("a byte missing", lambda values: values["model"]["vocab"].pop("Ã"), "not numbered from 0"),
    ("a byte of another name", lambda values: put(values["model"]["vocab"].pop("Ã"), "model", "vocab", "xyzzy")(values),
     "not made of the 256 bytes"),
    ("an entry that is no bytes", put(300, "model", "vocab", "a b"), "not made of the 256 bytes"),
    ("dropout", put(0.5, "model", "dropout"), "its model.dropout"),
    ("a prefix of subwords", put("##", "model", "continuing_subword_prefix"), "its model.continuing_subword_prefix"),
    ("small letters", put({"type": "Lowercase"}, "normalizer"), "its normalizer"),
    ("another splitting", put({"type": "Whitespace"}, "pre_tokenizer"), "its pre_tokenizer"),
    ("no splitting", lambda values: values.pop("pre_tokenizer"), "its pre_tokenizer"),
    ("another model", put("WordLevel", "model", "type"), "its model.type"),
    ("another version", put("2.0", "version"), "its version"),
    ("an unknown setting", put(1, "model", "more"), "its model.more"),
    # Numbers that a token file cannot hold, or that two entries share.
    ("a number twice", put(5, "model", "vocab", BYTE), "not numbered from 0"),
    ("a number too large", put(70_000, "model", "vocab", BYTE), "not numbered from 0"),
    ("a number below 0", put(-1, "model", "vocab", BYTE), "not numbered from 0"),
    ("a number that is none", put("5", "model", "vocab", BYTE), "has a number"),
    ("a merge of what is no entry", put(["zz", "qq"], "model", "merges", 0), "its merges"),
    ("a merge that is none", put("zz", "model", "merges", 0), "its merges"),
    ("a merge of numbers", put([1, 2], "model", "merges", 0), "its merges"),
    ("no merges", lambda values: values["model"].pop("merges"), "its merges"),
    ("no vocabulary", put([], "model", "vocab"), "has no <|endoftext|>"),
    ("no model", put(None, "model"), "it has no model"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), [row[1:] for row in OTHER_FORMS], ids=[row[0] for row in OTHER_FORMS])
def test_load_tokenizer_refuses_another_form(tmp_path, tokenizer, change, words):
    path, values = tmp_path / "tokenizer.json", json.loads(tokenizer.to_str())
    change(values)
    path.write_text(json.dumps(values))
    assert words in refusal(path)


def test_load_tokenizer_largest_vocabulary(tmp_path, tokenizer):
    path, values = tmp_path / "tokenizer.json", json.loads(tokenizer.to_str())
    vocabulary = values["model"]["vocab"]
    letters = [entry for entry in vocabulary if len(entry) == 1]
    words = map("".join, product(letters, repeat=3))
    while len(vocabulary) < 65_536:
        vocabulary.setdefault(next(words), len(vocabulary))
    path.write_text(json.dumps(values))
    assert load_tokenizer(path).get_vocab_size() == 65_536
    vocabulary[next(words)] = 65_536
    path.write_text(json.dumps(values))
    assert "not numbered from 0 to at most 65535" in refusal(path)
