"""Writing token files and their meta.json."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer

from tinystories.common.console import progress
from tinystories.common.files import atomic_write, write_json
from tinystories.encoding.encoder import encode_stories
from tinystories.tokenization.token_files import END_OF_TEXT_BYTES, TOKEN_DTYPE, Split, TokenMeta


def write_tokens(stories: Iterable[str], tokenizer: Tokenizer, path: Path, total_bytes: int) -> Split:
    """Encode the stories into `path`, in one pass and constant memory. `total_bytes` of text serve the time left."""
    digest = hashlib.sha256()
    tokens = story_count = text_bytes = 0

    def counted() -> Iterator[str]:
        nonlocal story_count, text_bytes
        for story in stories:
            story_count += 1
            text_bytes += len(story) if story.isascii() else len(story.encode())
            yield story

    with atomic_write(path) as file, progress(f"Encoding {path}", total_bytes) as bar:
        shown = 0
        for block in chain([END_OF_TEXT_BYTES], encode_stories(counted(), tokenizer)):
            file.write(block)
            digest.update(block)
            tokens += len(block) // TOKEN_DTYPE.itemsize
            bar.advance(text_bytes - shown, f"{text_bytes / 1e6 / bar.seconds:.1f} MB/s")
            shown = text_bytes
    return Split(tokens, story_count, text_bytes, digest.hexdigest())


def write_meta(meta: TokenMeta, path: Path) -> None:
    """Write meta.json, last of all: where it stands, the token files are whole."""
    write_json(path, asdict(meta))
