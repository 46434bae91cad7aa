"""The tokenizer: exact size, every text comes back, others can load it."""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tinystories.common.errors import UserError
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.tokenization.tokenizer import load_tokenizer
from tinystories.tokenizer_training import bpe as module
from tinystories.tokenizer_training.bpe import train_tokenizer

# Text as it may come, and the pieces that could trip a tokenizer.
PIECES = st.sampled_from(
    [END_OF_TEXT, "<|endof", "|>", " ", "  ", "\n", "\r\n", "\0", "\x7f", "Ġ", "'s", "é", "🐉", "\ufeff"]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(PIECES | st.text(max_size=3)).map("".join)


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize("vocab_size", [257, 258, 300])
def test_the_vocabulary_has_exactly_the_size_asked_for(stories, vocab_size):
    tokenizer = train_tokenizer(stories, vocab_size, total_bytes=1)
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID == 0


def test_too_few_words_are_refused_with_what_they_could_give(stories):
    with pytest.raises(UserError) as caught:
        train_tokenizer(["a cat sat. a cat sat."], 400, total_bytes=1)
    message = str(caught.value)
    assert "tokenizer.vocab_size is 400" in message
    possible = int(message.split("give only ")[1].split(" entries")[0])
    assert 257 < possible < 280
    assert train_tokenizer(["a cat sat. a cat sat."], possible, total_bytes=1).get_vocab_size() == possible


def test_no_stories_at_all_are_refused():
    with pytest.raises(UserError, match="give only 257 entries"):
        train_tokenizer([], 300, total_bytes=1)


def test_frequent_words_become_one_token(tokenizer):
    assert len(encode(tokenizer, " little")) < len(encode(tokenizer, " zqxjkv"))


def test_training_is_reproducible(stories, tokenizer):
    assert train_tokenizer(iter(stories), 300, total_bytes=1).to_str() == tokenizer.to_str()


def trained_on_whole_words(stories: list[str], vocab_size: int) -> str:
    """tokenizer.json as `tokenizers` alone makes it."""
    whole = Tokenizer(models.BPE())
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    whole.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=[END_OF_TEXT], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    whole.train_from_iterator(iter(stories), trainer=trainer)
    return str(whole.to_str())


def test_words_of_ordinary_length_are_learnt_whole(stories, tokenizer):
    assert tokenizer.to_str() == trained_on_whole_words(stories, 300)
    longest = ["é" * (module.MAX_WORD_BYTES // 2) + " " + "a" * (module.MAX_WORD_BYTES - 1)] * 2
    assert train_tokenizer(longest, 260, total_bytes=1).to_str() == trained_on_whole_words(longest, 260)


def test_longer_words_are_learnt_in_pieces_and_encoded_whole(monkeypatch):
    """What a word costs grows with the square of its length: a story without a space would take days."""
    monkeypatch.setattr(module, "MAX_WORD_BYTES", 4)
    texts = ["é" * 400, "\0" * 401, "abcdefgh" * 30, " " * 90 + "x", "我爱我的家" * 20]
    cut = train_tokenizer(texts, 268, total_bytes=1)
    assert max(map(len, cut.get_vocab().keys() - {END_OF_TEXT})) == 4
    assert max(map(len, json.loads(trained_on_whole_words(texts, 268))["model"]["vocab"].keys() - {END_OF_TEXT})) > 4
    for text in texts:
        assert cut.decode(encode(cut, text)) == text
        assert cut.pre_tokenizer.pre_tokenize_str(text)[0][1][1] > 4


@given(text=TEXTS)
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(encode(tokenizer, text), skip_special_tokens=False) == text


@given(text=TEXTS.filter(lambda text: END_OF_TEXT not in text))
def test_story_text_never_gives_the_end_of_text_token(tokenizer, text):
    assert END_OF_TEXT_ID not in encode(tokenizer, text)


def test_the_end_of_text_is_one_token(tokenizer):
    assert encode(tokenizer, END_OF_TEXT) == [END_OF_TEXT_ID]


def test_what_is_saved_is_loaded_by_us_and_by_others(tokenizer, tokenizer_file, stories):
    loaded = load_tokenizer(tokenizer_file)
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_file))
    plain = Tokenizer.from_file(str(tokenizer_file))
    assert len(theirs) == 300
    for text in [*stories[:5], " a", "a  b\n\n", "🐉" + END_OF_TEXT]:
        ids = encode(tokenizer, text)
        assert encode(loaded, text) == encode(plain, text) == theirs.encode(text, add_special_tokens=False) == ids
        assert theirs.decode(ids, clean_up_tokenization_spaces=False) == text


def test_a_missing_file_names_the_stage_that_makes_it(tmp_path):
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
def test_a_damaged_file_is_refused(tmp_path, tokenizer_file, damage):
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
    ("padding", put({"strategy": {"Fixed": 10**8}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                     "pad_type_id": 0, "pad_token": "x"}, "padding"), "its padding"),
    ("a prefix of subwords", put("##", "model", "continuing_subword_prefix"), "its model.continuing_subword_prefix"),
    ("truncation", put({"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 5}, "truncation"),
     "its truncation"),
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
def test_a_tokenizer_of_another_form_is_refused(tmp_path, tokenizer, change, words):
    path, values = tmp_path / "tokenizer.json", json.loads(tokenizer.to_str())
    change(values)
    path.write_text(json.dumps(values))
    assert words in refusal(path)


def test_the_largest_vocabulary_and_no_larger(tmp_path, tokenizer):
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
