"""Training the tokenizer: the vocabulary's size, what it is learned from, and what is refused."""

import json
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.corpus.stories import SEPARATOR, blocks_of, write_stories
from tinystories.sources import storygen
from tinystories.tokenization import fast
from tinystories.tokenization.tokenizer import load_tokenizer
from tinystories.tokenizer_training import bpe, word_counts
from tinystories.tokenizer_training.bpe import train_and_save, train_on_blocks, train_tokenizer
from tinystories.tokenizer_training.merges import learn_merges


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def test_train_and_save_writes_tokenizer_json(tmp_path, monkeypatch, stories, tokenizer, small_params: Params):
    monkeypatch.chdir(tmp_path)
    write_stories(paths.RAW_TRAIN, stories)
    section = small_params.tokenizer.model_copy(update={"vocab_size": 300})
    train_and_save(small_params.model_copy(update={"tokenizer": section}))
    assert load_tokenizer(paths.TOKENIZER).to_str() == tokenizer.to_str()


PARTS = [
    "a",
    "b",
    "ab",
    "cat",
    "!",
    "?",
    "!!",
    "-",
    "é",
    "猫",
    "\u088f",
    "\u2028",
    "7",
    "'s",
    "<|endof",
    "text|>",
    "x" * 12,
]
TEXT = st.lists(st.sampled_from([*PARTS, " ", " ", "\n", "  "]), max_size=60).map("".join) | st.text(max_size=30)
TEXTS = st.lists(TEXT.filter(lambda text: SEPARATOR not in text), min_size=1, max_size=6)


@given(texts=TEXTS, vocab_size=st.sampled_from([258, 265, 300, 1000]), block_bytes=st.sampled_from([1, 50, 2**22]))
@example(texts=["aaaaaaa aaaa aaa"] * 3, vocab_size=300, block_bytes=1)
@example(texts=["abababab bababa"] * 3, vocab_size=300, block_bytes=1)
def test_train_on_blocks_any_text(texts, vocab_size, block_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "MAX_WORD_BYTES", 10)
        blocks = list(blocks_of(texts, block_bytes))
        try:
            expected = train_tokenizer(texts, vocab_size, total_bytes=1)
        except UserError as error:
            with pytest.raises(UserError) as caught:
                train_on_blocks(blocks, vocab_size, total_bytes=1)
            assert str(caught.value) == str(error)
        else:
            assert train_on_blocks(blocks, vocab_size, total_bytes=1).to_str() == expected.to_str()


def test_train_on_blocks_generated_stories():
    stories = list(storygen.stories(seed=2, start=0, count=1500))
    trained = train_on_blocks(blocks_of(stories, 2**18), 2000, total_bytes=1)
    assert trained.to_str() == train_tokenizer(stories, 2000, total_bytes=1).to_str()


def test_train_on_blocks_long_words():
    texts = ["ab" * 5_000 + " " + "猫" * 5_000, " " * 20_000 + "x", "\0" * 5_000]
    assert (
        train_on_blocks(blocks_of(texts), 300, total_bytes=1).to_str()
        == train_tokenizer(texts, 300, total_bytes=1).to_str()
    )


def test_train_on_blocks_says_nothing(stories, capfd):
    """gigatoken itself writes to the screen."""
    train_on_blocks(blocks_of(stories), 300, total_bytes=1)
    assert capfd.readouterr() == ("", "")


def test_train_on_blocks_refuses_other_words(stories, monkeypatch):
    count_fast = word_counts._count_fast
    monkeypatch.setattr(word_counts, "_count_fast", lambda data: count_fast(data)[1:])
    with pytest.raises(UserError, match=r"^gigatoken .* and tokenizers .* give different words for 'One day"):
        train_on_blocks(blocks_of(stories), 300, total_bytes=1)
    monkeypatch.setattr(word_counts, "_count_fast", lambda data: [(b"ab ", 1), (b"cd", 1)])
    with pytest.raises(UserError, match="give different words for 'ab cd"):
        train_on_blocks(blocks_of(["ab cd"]), 300, total_bytes=1)


def test_train_on_blocks_refuses_other_merges(stories, monkeypatch):
    monkeypatch.setattr(bpe, "learn_merges", lambda counts, size: learn_merges(dict.fromkeys(counts, 2), size))
    with pytest.raises(UserError, match="give different merges for 'One day"):
        train_on_blocks(blocks_of(stories), 300, total_bytes=1)


def test_train_and_save_too_many_words(tmp_path, monkeypatch, stories, tokenizer, small_params: Params, capsys):
    """Memory is bounded: `tokenizers` trains, in its own."""
    monkeypatch.setattr(word_counts, "MAX_WORDS", 20)
    test_train_and_save_writes_tokenizer_json(tmp_path, monkeypatch, stories, tokenizer, small_params)
    assert "different words: tokenizers trains the tokenizer, slower" in capsys.readouterr().out


def test_train_and_save_without_gigatoken(tmp_path, monkeypatch, stories, tokenizer, small_params: Params, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    monkeypatch.setattr(fast, "_warned", set())
    fast.gigatoken.cache_clear()
    try:
        test_train_and_save_writes_tokenizer_json(tmp_path, monkeypatch, stories, tokenizer, small_params)
    finally:
        fast.gigatoken.cache_clear()
    assert capsys.readouterr().out.count("warning: gigatoken does not work (") == 1


@pytest.mark.parametrize("vocab_size", [257, 258, 300])
def test_train_tokenizer_exact_vocab_size(stories, vocab_size):
    tokenizer = train_tokenizer(stories, vocab_size, total_bytes=1)
    assert sorted(tokenizer.get_vocab().values()) == list(range(vocab_size))
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID == 0


def test_train_tokenizer_too_few_words(stories):
    with pytest.raises(UserError) as caught:
        train_tokenizer(["a cat sat. a cat sat."], 400, total_bytes=1)
    message = str(caught.value)
    assert "tokenizer.vocab_size is 400" in message
    possible = int(message.split("gives only ")[1].split(" entries")[0])
    assert message.endswith(f"; take more text, or: dvc exp run -S tokenizer.vocab_size={possible}")
    assert 257 < possible < 280
    assert train_tokenizer(["a cat sat. a cat sat."], possible, total_bytes=1).get_vocab_size() == possible


def test_train_tokenizer_no_stories():
    with pytest.raises(UserError, match="gives only 257 entries"):
        train_tokenizer([], 300, total_bytes=1)


def test_train_tokenizer_merges_frequent_words(tokenizer):
    assert len(encode(tokenizer, " little")) < len(encode(tokenizer, " zqxjkv"))


def test_train_tokenizer_reproducible(stories, tokenizer):
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


def test_train_tokenizer_ordinary_words_uncut(stories, tokenizer):
    assert tokenizer.to_str() == trained_on_whole_words(stories, 300)
    longest = ["é" * (bpe.MAX_WORD_BYTES // 2) + " " + "a" * (bpe.MAX_WORD_BYTES - 1)] * 2
    assert train_tokenizer(longest, 260, total_bytes=1).to_str() == trained_on_whole_words(longest, 260)


def test_train_tokenizer_long_words_in_pieces(monkeypatch):
    """What a word costs grows with the square of its length: a story without a space would take days."""
    monkeypatch.setattr(bpe, "MAX_WORD_BYTES", 4)
    texts = ["é" * 400, "\0" * 401, "abcdefgh" * 30, " " * 90 + "x", "我爱我的家" * 20]
    cut = train_tokenizer(texts, 268, total_bytes=1)
    assert max(map(len, cut.get_vocab().keys() - {END_OF_TEXT})) == 4
    assert max(map(len, json.loads(trained_on_whole_words(texts, 268))["model"]["vocab"].keys() - {END_OF_TEXT})) > 4
    for text in texts:
        assert cut.decode(encode(cut, text)) == text
        assert cut.pre_tokenizer.pre_tokenize_str(text)[0][1][1] > 4
