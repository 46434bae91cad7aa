"""Readers of parameters, stories, tokens and tokenizers, fuzzed: the right result, or one line that refuses it."""

from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tests.support.corruption import corrupted, corrupted_json
from tests.support.fuzz import fuzz, reading
from tests.support.repository import PARAMS
from tinystories.common.artifacts import TokenMeta
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.common.params_file import load_params
from tinystories.corpus.stories import SEPARATOR, read_stories
from tinystories.tokenization.token_files import check_counts, matching_tokenizer, open_tokens
from tinystories.tokenization.tokenizer import load_tokenizer

COMMITTED = PARAMS.read_bytes()

pytestmark = pytest.mark.usefixtures("fuzz_report")


# Parameters


def load(directory: Path, data: bytes) -> Params:
    (directory / "params.yaml").write_bytes(data)
    return load_params(directory / "params.yaml")


def check_params(directory: Path, data: bytes) -> None:
    with reading("params.yaml"):
        ours = load(directory, data).model_dump(mode="json")
        theirs: Any = parse_yaml(data.decode(), "params.yaml")
        if isinstance(switch := theirs["train"]["compile"], bool):
            theirs["train"]["compile"] = "on" if switch else "off"
        assert ours == theirs, "DVC reads something else"


@fuzz()
@given(data=corrupted(COMMITTED))
def test_load_params_corrupt(directory, data):
    check_params(directory, data)


@fuzz(0.5)
@given(data=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_load_params_random(directory, data):
    check_params(directory, data)


LINES = [line for line in COMMITTED.decode().splitlines() if ":" in line and not line.rstrip().endswith(":")]


@fuzz()
@given(
    line=st.sampled_from(LINES), value=corrupted(b"0.02") | corrupted(b"[Once upon, a time]") | st.binary(max_size=6)
)
def test_load_params_one_value(directory, line, value):
    before, after = COMMITTED.split(line.encode(), 1)
    check_params(directory, before + line.split(":")[0].encode() + b": " + value + after)


# Stories


PARTS = st.binary(max_size=6) | st.sampled_from([SEPARATOR.encode(), b"<|end", b"\r\n", b"\xf0\x9f\x90\x89"])


@fuzz()
@given(data=st.lists(PARTS).map(b"".join), block_size=st.integers(1, 20))
def test_read_stories_random(directory, data, block_size):
    (directory / "stories.txt").write_bytes(data)
    with reading("stories"):
        found = list(read_stories(directory / "stories.txt", block_size=block_size))
        text = data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        assert found == [story.strip() for story in text.split(SEPARATOR) if story.strip()]


# Tokens and tokenizer


@pytest.fixture(scope="module")
def whole_meta(token_file: Any, tokenizer_file: Path) -> bytes:
    entry = token_file[1]
    meta = TokenMeta(vocab_size=300, tokenizer_sha256=sha256_of(tokenizer_file), train=entry, valid=entry)
    return meta.model_dump_json().encode()


def read_tokens(meta_file: Path, token_file: Path, tokenizer_file: Path) -> TokenMeta:
    """As the stages train and evaluate do it."""
    meta = TokenMeta.read(meta_file)
    tokenizer = matching_tokenizer(meta, tokenizer_file)
    for entry in (meta.train, meta.valid):
        check_counts(token_file, open_tokens(token_file, entry, meta.vocab_size), entry, tokenizer)
    return meta


@fuzz()
@given(data=st.data())
def test_token_meta_corrupt(directory, whole_meta, token_file, tokenizer_file, data):
    (directory / "meta.json").write_bytes(data.draw(corrupted_json(whole_meta)))
    with reading("meta.json"):
        found = read_tokens(directory / "meta.json", token_file[0], tokenizer_file)
        assert found == TokenMeta.model_validate_json(whole_meta)


@fuzz()
@given(data=st.data())
def test_open_tokens_corrupt(directory, whole_meta, token_file, tokenizer_file, data):
    whole = token_file[0].read_bytes()
    (directory / "meta.json").write_bytes(whole_meta)
    (directory / "tokens.bin").write_bytes(other := data.draw(corrupted(whole)))
    with reading("tokens.bin"):
        read_tokens(directory / "meta.json", directory / "tokens.bin", tokenizer_file)
        assert other == whole


@fuzz()
@given(data=st.data(), text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_load_tokenizer_corrupt(directory, tokenizer_file, data, text):
    path = directory / "tokenizer.json"
    path.write_bytes(data.draw(corrupted_json(tokenizer_file.read_bytes())))
    with reading("tokenizer.json"):
        tokenizer: Tokenizer = load_tokenizer(path)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert max(ids, default=0) < tokenizer.get_vocab_size() <= 65_536
