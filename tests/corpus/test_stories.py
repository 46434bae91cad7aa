"""Reading and writing stories."""

import hashlib
import os
import re
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinystories.common.artifacts import StoryFile
from tinystories.common.errors import UserError
from tinystories.corpus import stories as corpus
from tinystories.corpus.stories import SEPARATOR, blocks_of, read_blocks, read_stories, story_writer, write_stories

BOM = "\ufeff"
PIECES = st.sampled_from(["a", "Lily", " ", "\n", "\r", "\r\n", "\0", "é", "🐉", BOM, "<", "<|endof", "|>", "\u2028"])
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def read(tmp_path: Path, data: bytes, block_size: int = corpus.BLOCK_BYTES) -> list[str]:
    path = tmp_path / "stories.txt"
    path.write_bytes(data)
    return read_both(path, block_size)


def read_both(path: Path, block_size: int) -> list[str]:
    """Read with `read_stories`; `read_blocks` must give the same, or the same error."""
    try:
        stories = list(read_stories(path, block_size=block_size))
    except UserError as error:
        with pytest.raises(UserError, match=f"^{re.escape(str(error))}$"):
            list(read_blocks(path, block_size=block_size))
        raise
    blocks = list(read_blocks(path, block_size=block_size))
    assert b"".join(block.data for block in blocks).decode() == "".join(f"{story}{SEPARATOR}" for story in stories)
    assert sum(block.stories for block in blocks) == len(stories)
    assert sum(block.text_bytes for block in blocks) == len("".join(stories).encode())
    assert all(block.stories for block in blocks)
    assert b"".join(block.data for block in blocks_of(stories, block_size)) == b"".join(block.data for block in blocks)
    return stories


def normal(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    while text != (text := text.strip().strip(BOM)):
        pass
    return text


@settings(deadline=None)
@given(st.lists(TEXTS.filter(lambda text: SEPARATOR not in text), max_size=8), st.integers(1, 40))
def test_read_stories_what_was_written(texts, block_size):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "stories.txt"
        path.write_bytes(SEPARATOR.join(texts).encode())
        expected = [normal(text) for text in SEPARATOR.join(texts).split(SEPARATOR) if normal(text)]
        stories = read_both(path, block_size)
        assert stories == expected

        size = write_stories(path, stories)
        data = path.read_bytes()
        assert data == b"".join(f"{story}\n<|endoftext|>\n".encode() for story in stories)
        assert size == StoryFile(bytes=len(data), stories=len(stories), sha256=hashlib.sha256(data).hexdigest())
        assert list(read_stories(path, block_size=block_size)) == stories


@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 64, corpus.BLOCK_BYTES])
def test_read_stories_separators_and_line_ends(tmp_path, block_size):
    data = f"{BOM}One.\r\n\r\nTwo.\r<|endoftext|>\r\n Three.<|endoftext|>Four <|endoftext|> five\0.\r\n".encode()
    assert read(tmp_path, data, block_size) == ["One.\n\nTwo.", "Three.", "Four", "five\0."]


@pytest.mark.parametrize("block_size", [1, 2, 3, 7, 64, corpus.BLOCK_BYTES])
def test_read_stories_joined_files(tmp_path, block_size):
    """As `cat` joins them, with and without a separator or a line end at the end of each."""
    one, two = (f"{BOM}{number}.\n{SEPARATOR}\n" for number in ("One", "Two"))
    data = f"{one}{two}{two[:-1]}{one}\n{BOM} {BOM}\n{SEPARATOR}Six{BOM}".encode()
    assert read(tmp_path, data, block_size) == ["One.", "Two.", "Two.", "One.", "Six"]
    assert read(tmp_path, f"a{BOM}b".encode(), block_size) == [f"a{BOM}b"]  # within a story it is a letter of its own


def test_strip_has_all_whitespace():
    assert set(corpus._STRIP) == {BOM, *filter(str.isspace, map(chr, range(0x110000)))}


def test_read_stories_last_without_separator(tmp_path):
    assert read(tmp_path, b"Once.") == read(tmp_path, b"Once.\n<|endoftext|>\n") == ["Once."]


def test_read_stories_blank_files(tmp_path):
    assert read(tmp_path, b"") == []
    assert read(tmp_path, b" \r\n\t\n") == []
    assert read(tmp_path, f"{BOM}\n{SEPARATOR}\n{SEPARATOR}".encode()) == []


@pytest.mark.parametrize("block_size", [1, 2, 5, corpus.BLOCK_BYTES])
@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"Good.\n<|endoftext|>\nBad \xff.\n<|endoftext|>\n", 24),
        ("Once upon a dragon: 🐉".encode()[:-1], 20),  # cut within the last character
        ("é\n<|endoftext|>\n".encode() + "é".encode()[:1], 17),
        ("Once".encode("utf-16"), 0),
        (b"\xed\xa0\x80", 0),  # half of a surrogate pair
        (b"One.\n<|endoftext|>\nTwo.\n<|endoftext|>\n\xff", 38),  # the last byte of all
    ],
)
def test_read_stories_invalid_utf8(tmp_path, data, offset, block_size):
    with pytest.raises(UserError) as error:
        read(tmp_path, data, block_size)
    start = f"{tmp_path}/stories.txt: not UTF-8 at byte {offset}; save it as UTF-8, or if it is from an older Windows: "
    assert str(error.value) == f"{start}iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"


def test_read_stories_characters_across_blocks(tmp_path):
    story = "é🐉\u2028x" * 50
    for block_size in range(1, 20):
        assert read(tmp_path, f"{story}\n{SEPARATOR}\n{story}".encode(), block_size) == [story, story]


def test_read_stories_million_empty(tmp_path):
    assert read(tmp_path, f"\n{SEPARATOR}\n".encode() * 1_000_000 + b"The end.") == ["The end."]


def test_read_stories_one_huge(tmp_path):
    story = "Once upon a time. " * 600_000 + "The end."
    path = tmp_path / "stories.txt"
    assert write_stories(path, [story]).bytes == len(story) + len(SEPARATOR) + 2
    assert list(read_stories(path, block_size=4096)) == [story]


def test_read_stories_constant_memory(tmp_path):
    path = tmp_path / "stories.txt"
    tracemalloc.start()
    try:
        write_stories(path, (f"Story {number}. " + "Once. " * 150 for number in range(40_000)))
        assert sum(1 for _ in read_stories(path)) == 40_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert sum(block.stories for block in read_blocks(path, block_size=corpus.BLOCK_BYTES)) == 40_000
        peak_of_blocks = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size > 30e6
    assert max(peak, peak_of_blocks) < 12e6


def test_read_stories_refuses_no_separators(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_STORY_BYTES", 1000)
    with pytest.raises(UserError, match=r"stories.txt: no <\|endoftext\|> in the 1,008 bytes after byte 17; each"):
        read(tmp_path, b"One.<|endoftext|>" + b"x" * 5000, block_size=25)
    assert len(read(tmp_path, b"One.<|endoftext|>" * 100, block_size=1)) == 100


def test_read_stories_refuses_100_mb_story(tmp_path):
    """The tokenizer would want 10 GB to learn from it."""
    path = tmp_path / "stories.txt"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"Once upon a time. " * 55_556)
    tracemalloc.start()
    try:
        with pytest.raises(
            UserError, match=r"stories.txt: no <\|endoftext\|> in the 17,\d+,\d+ bytes after byte 0; each"
        ):
            list(read_stories(path))
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_read_stories_unreadable_file(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError, match=f"^{path}: not readable"):
            list(read_stories(path))


def test_read_stories_on_block(tmp_path):
    data = "Lily.\r\n<|endoftext|>Tom é".encode()
    (tmp_path / "a.txt").write_bytes(data)
    seen: list[bytes] = []
    list(read_stories(tmp_path / "a.txt", block_size=4, on_block=seen.append))
    assert b"".join(seen) == data
    assert len(seen) == 7


def test_story_writer_error_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), story_writer(tmp_path / "a.txt") as writer:
        writer.write("Once.")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_write_stories_real_stories_unchanged(tmp_path):
    root = Path(__file__).parents[2]
    sample = Path(os.environ.get("TINYSTORIES_SAMPLE") or root / "../shared/data/tinystories") / "train.txt"
    if not sample.exists():
        pytest.skip("no real stories here: set TINYSTORIES_SAMPLE to a directory with train.txt")
    size = write_stories(tmp_path / "copy.txt", read_stories(sample))
    assert (tmp_path / "copy.txt").read_bytes() == sample.read_bytes()
    assert size.stories == sample.read_text(encoding="utf-8").count(SEPARATOR)
