"""Encode the stories of both splits into token files and their meta.json."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.console import progress
from tinystories.common.engine import check_engine
from tinystories.common.errors import UserError
from tinystories.common.files import atomic_write, sha256_of
from tinystories.corpus.stories import StoryBlock, blocks_of, read_blocks
from tinystories.encoding.encoder import encode_blocks
from tinystories.tokenization.token_files import END_OF_TEXT_BYTES, TOKEN_DTYPE
from tinystories.tokenization.tokenizer import load_tokenizer

Encode = Callable[[Iterable[StoryBlock], Tokenizer], Iterator[bytes]]


def tokenize_to_memmap(engine: str = "local") -> None:
    """Encode both splits into token files, and write meta.json last: where it stands, the token files are whole.

    `engine`: what encodes, `local` or `ray`; the files are the same. Errors: UserError for a cluster that is not there.
    """
    check_engine(engine)
    tokenizer = load_tokenizer(paths.TOKENIZER)
    with _encoding_by(engine) as encode:
        train, valid = (
            write_blocks(read_blocks(text), tokenizer, tokens, text.stat().st_size, encode)
            for text, tokens in ((paths.RAW_TRAIN, paths.TOKENS_TRAIN), (paths.RAW_VALID, paths.TOKENS_VALID))
        )
    write_meta(tokenizer, train, valid)


@contextmanager
def _encoding_by(engine: str) -> Iterator[Encode]:
    if engine == "ray":
        from tinystories.encoding import ray_engine

        with ray_engine.cluster() as ray:
            yield ray.encode_blocks
    else:
        yield encode_blocks


def write_meta(tokenizer: Tokenizer, train: TokenFile, valid: TokenFile) -> None:
    """Write meta.json. `tokenizer` is the one in tokenizer.json, which made both files."""
    TokenMeta(
        vocab_size=tokenizer.get_vocab_size(), tokenizer_sha256=sha256_of(paths.TOKENIZER), train=train, valid=valid
    ).write()


def write_tokens(stories: Iterable[str], tokenizer: Tokenizer, path: Path, total_bytes: int) -> TokenFile:
    """Encode stories in memory as `write_blocks` does."""
    return write_blocks(blocks_of(stories), tokenizer, path, total_bytes)


def write_blocks(
    blocks: Iterable[StoryBlock], tokenizer: Tokenizer, path: Path, total_bytes: int, encode: Encode = encode_blocks
) -> TokenFile:
    """Encode blocks of stories into the token file `path`, in one pass and bounded memory.

    `total_bytes`: size of the text, for the progress bar. Errors: UserError where there is no story.
    """
    digest = hashlib.sha256()
    tokens = story_count = text_bytes = 0

    def counted() -> Iterator[StoryBlock]:
        nonlocal story_count, text_bytes
        for block in blocks:
            story_count += block.stories
            text_bytes += block.text_bytes
            yield block

    with atomic_write(path) as file, progress(f"Encoding {path}", total_bytes) as bar:
        shown = 0
        for ids in chain([END_OF_TEXT_BYTES], encode(counted(), tokenizer)):
            file.write(ids)
            digest.update(ids)
            tokens += len(ids) // TOKEN_DTYPE.itemsize
            bar.advance(text_bytes - shown, f"{text_bytes / 1e6 / bar.seconds:.1f} MB/s")
            shown = text_bytes
        if not story_count:
            raise UserError(f"{path}: no story to encode; run the stage download again")
    return TokenFile(tokens=tokens, stories=story_count, bytes=text_bytes, sha256=digest.hexdigest())
