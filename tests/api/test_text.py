"""Encoding the ends of long texts, and decoding token by token, compared with the tokenizer itself."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinystories.api.text import StreamDecoder, encode, encode_end, show
from tinystories.common.errors import UserError
from tinystories.tokenization.tokenizer import byte_values
from tinystories.tokenizer_training.bpe import train_tokenizer


def decode(tokenizer, ids):
    decoder = StreamDecoder(tokenizer)
    return [*map(decoder.add, ids), decoder.finish()]


@given(ids=st.lists(st.integers(0, 299), max_size=40))
def test_stream_decoder_equals_the_tokenizer(tokenizer, ids):
    """Also for bytes that are no UTF-8."""
    assert "".join(decode(tokenizer, ids)) == tokenizer.decode(ids)


def test_stream_decoder_holds_back_half_a_character(tokenizer):
    ids = encode(tokenizer, "é!")
    assert len(ids) == 3, "the test needs a character of two tokens"
    assert decode(tokenizer, ids) == ["", "é", "!", ""]
    assert decode(tokenizer, ids[:1]) == ["", "�"]


def test_byte_values_are_those_of_the_tokenizer(tokenizer):
    assert sorted(byte_values().values()) == list(range(256))
    assert set("".join(tokenizer.get_vocab().keys() - {"<|endoftext|>"})) <= byte_values().keys()


def test_encode_takes_the_separator_as_its_token(tokenizer):
    assert encode(tokenizer, "a<|endoftext|>b").count(0) == 1


def test_encode_refuses_what_is_no_unicode(tokenizer):
    with pytest.raises(UserError, match="not UTF-8 at character 3"):
        encode(tokenizer, "ab\udcff")


WORDS = st.sampled_from(
    ["Lily", " went", "  ", "\n", " the", "'s", " 12", "!", " 🐉", "<|endoftext|>", " a", "x" * 9, ""]
)


@given(words=st.lists(WORDS, max_size=300), tokens=st.integers(1, 12))
def test_encode_end_is_the_end_of_the_whole(tokenizer, words, tokens):
    text = "".join(words) + " and so on to the very end" * (len(words) % 7)
    whole, end = encode(tokenizer, text), encode_end(tokenizer, text, tokens)
    assert end == whole if len(whole) < tokens else end[-tokens:] == whole[-tokens:] and len(end) >= tokens


@pytest.mark.parametrize("tokens", range(5, 25))
def test_encode_end_begins_between_words(tokens):
    """Its first token, too, is one of the whole text, also where spaces stand in a row that is one token."""
    tokenizer = train_tokenizer(["Tom and     Lily     ,     so"] * 9, vocab_size=270, total_bytes=1)
    whole = encode(tokenizer, text := "Tom and     Lily     ,     so glad" * 100)
    end = encode_end(tokenizer, text, tokens)
    assert tokens <= len(end) < len(whole) and whole[-len(end) :] == end


@pytest.mark.parametrize("piece", ["One day, Tom saw a dragon. ", "x", " ", "🐉"])
def test_encode_end_of_ten_megabytes_is_fast(tokenizer, piece):
    text = piece * (10_000_000 // len(piece))
    start = time.process_time()
    ids = encode_end(tokenizer, text, 256)
    assert 256 < len(ids) < 100_000
    assert time.process_time() - start < 2


def test_show_escapes_what_a_terminal_obeys():
    assert show("Zoë 🐉\n\t\x1b[2J\x07\r\x7f\x9b") == "Zoë 🐉\n\t\\x1b[2J\\x07\\r\\x7f\\x9b"
