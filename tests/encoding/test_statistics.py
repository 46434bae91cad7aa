"""Figures of a corpus: equal to plain Python's, in any blocks, exact or sampled."""

from pathlib import Path

import numpy as np
import pytest

from tinystories.encoding import statistics
from tinystories.encoding.statistics import duplicates, overlap, read_story_tokens, read_text, story_blocks


@pytest.fixture
def stories() -> list[list[int]]:
    """Stories of 0 to 39 tokens, some twice."""
    random = np.random.default_rng(3)
    made = [random.integers(1, 60_000, size).tolist() for size in random.integers(0, 40, 600)]
    return made + made[:100]


def write(path: Path, stories: list[list[int]]) -> Path:
    path.write_bytes(np.array([0, *(token for story in stories for token in (*story, 0))], "<u2").tobytes())
    return path


@pytest.mark.parametrize("block", [3, 50, 1000])
def test_read_story_tokens_in_any_blocks(tmp_path, stories, monkeypatch, block):
    whole = read_story_tokens(write(tmp_path / "a.bin", stories), 1)
    monkeypatch.setattr(statistics, "BLOCK_TOKENS", block)
    found = read_story_tokens(tmp_path / "a.bin", 1)
    assert found.lengths.tolist() == [len(story) for story in stories]
    assert found.digests.tolist() == whole.digests.tolist()
    assert np.concatenate(list(story_blocks(tmp_path / "a.bin"))).tolist() == [
        token for story in stories for token in (*story, 0)
    ]


def test_read_story_tokens_digests_tell_stories_apart(tmp_path, stories):
    digests = read_story_tokens(write(tmp_path / "a.bin", stories), 1).digests
    assert len(digests) == len(stories)
    assert len(set(digests.tolist())) == len({tuple(story) for story in stories})


def test_read_story_tokens_samples_copies_together(tmp_path, stories):
    whole = set(read_story_tokens(write(tmp_path / "a.bin", stories), 1).digests.tolist())
    chosen = read_story_tokens(tmp_path / "a.bin", 8).digests.tolist()
    other = read_story_tokens(write(tmp_path / "b.bin", stories[::-1]), 8).digests.tolist()
    assert sorted(chosen) == sorted(other) and set(chosen) < whole
    assert len(stories) / 16 < len(chosen) < len(stories) / 4


def test_duplicates_and_overlap():
    train = np.array([1, 2, 2, 3, 3, 3, 4, 5], np.uint64)
    assert duplicates(train) == 3 / 8
    assert overlap(np.array([3, 9, 3, 8], np.uint64), train) == 1 / 2
    none = np.empty(0, np.uint64)
    assert (duplicates(none), overlap(none, train), overlap(train, none)) == (0, 0, 0)


TEXT = "Lily saw\n\na  frog.\n<|endoftext|>\nIt\u2019s a caf\u00e9.\n<|endoftext|>\n"


def test_read_text_counts(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT, encoding="utf-8")
    assert read_text(tmp_path / "a.txt") == (len(TEXT.encode()), 7, 0)


@pytest.mark.parametrize("codec", ["latin-1", "cp1252"])
def test_read_text_finds_text_decoded_twice(tmp_path, codec):
    (tmp_path / "a.txt").write_text(TEXT.encode().decode(codec) + "\ufffd\n", encoding="utf-8")
    assert read_text(tmp_path / "a.txt").odd == 3


def test_read_text_sample_is_spread(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT * 500 + "a " * 30_000, encoding="utf-8")
    whole = read_text(tmp_path / "a.txt")
    monkeypatch.setattr(statistics, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(statistics, "SAMPLE_BYTES", whole.bytes // 8)
    sample = read_text(tmp_path / "a.txt")
    assert whole.bytes / 9 < sample.bytes < whole.bytes / 7
    assert sample.words / sample.bytes == pytest.approx(whole.words / whole.bytes, rel=0.05)
