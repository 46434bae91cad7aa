"""The tokenizer: exact size, every text comes back, others can load it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tinystories.errors import UserError
from tinystories.tokenizer import END_OF_TEXT, END_OF_TEXT_ID, load_tokenizer, save_tokenizer, train_tokenizer

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


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "\0", "cut", "not UTF-8"])
def test_a_damaged_file_is_refused(tmp_path, tokenizer_file, damage):
    path = tmp_path / "tokenizer.json"
    whole = tokenizer_file.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "not UTF-8": b"\xff" + whole}.get(damage, damage.encode()))
    with pytest.raises(UserError, match="not a tokenizer") as caught:
        load_tokenizer(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_tokenizer_with_the_end_of_text_elsewhere_is_refused(tmp_path, tokenizer):
    other = json.loads(tokenizer.to_str())
    vocabulary = other["model"]["vocab"]
    first = next(word for word, number in vocabulary.items() if number == 1)
    vocabulary[first], vocabulary[END_OF_TEXT] = 0, 1
    other["added_tokens"][0]["id"] = 1
    path = tmp_path / "tokenizer.json"
    save_tokenizer(Tokenizer.from_str(json.dumps(other)), path)
    with pytest.raises(UserError, match=r"has no <\|endoftext\|> as entry 0"):
        load_tokenizer(path)


def test_a_tokenizer_without_an_end_of_text_is_refused(tmp_path, tokenizer):
    other = json.loads(tokenizer.to_str())
    other["added_tokens"][0]["content"] = "<|other|>"
    other["model"]["vocab"]["<|other|>"] = other["model"]["vocab"].pop(END_OF_TEXT)
    path = tmp_path / "tokenizer.json"
    save_tokenizer(Tokenizer.from_str(json.dumps(other)), path)
    with pytest.raises(UserError, match=r"has no <\|endoftext\|> as entry 0"):
        load_tokenizer(path)
