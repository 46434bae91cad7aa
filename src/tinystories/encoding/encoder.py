"""Encode blocks of stories into the ids that `tokenizers` gives, by `gigatoken` where that gives the same.

Both encode a whole block at once: they take `<|endoftext|>` for the end-of-text token wherever it stands.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import psutil
from tokenizers import Tokenizer

from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.corpus.stories import StoryBlock
from tinystories.tokenization.fast import fall_back, gigatoken, is_split_alike, refuse, sample, word_ends
from tinystories.tokenization.token_files import TOKEN_DTYPE
from tinystories.tokenization.tokenizer import is_standard

BLOCKS_AHEAD = 2  # read before the block ahead of them is written
CACHE_BYTES = 32 << 20  # by which the process may grow before gigatoken's cache of words is dropped
PIECE_BYTES = 2**14  # that `tokenizers` encodes as one text
BATCH_PIECES = 32  # that it encodes at once: it takes more than 100 bytes for each


def encode_blocks(blocks: Iterable[StoryBlock], tokenizer: Tokenizer) -> Iterator[bytes]:
    """Yield parts of a token file: the ids of each story of a block, then the end-of-text token.

    A thread encodes while the caller reads and writes. Memory is bounded, whatever the text.
    Errors: UserError where gigatoken and tokenizers differ; ValueError for a tokenizer that is not standard.
    """
    encoder = BlockEncoder(tokenizer)
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")
    pending: deque[Future[bytes]] = deque()
    try:
        for block in blocks:
            pending.append(pool.submit(encoder.encode, block.data))
            if len(pending) > BLOCKS_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def encode_with_tokenizers(data: bytes, tokenizer: Tokenizer) -> bytes:
    """Encode a block with `tokenizers` alone: the readable way, which defines what is right."""
    ends = word_ends(data, PIECE_BYTES)
    pieces = [data[start:end].decode() for start, end in zip([0, *ends], ends, strict=False)]
    encoded = []
    for first in range(0, len(pieces), BATCH_PIECES):
        batch = tokenizer.encode_batch_fast(pieces[first : first + BATCH_PIECES], add_special_tokens=False)
        encoded += [np.asarray(encoding.ids, dtype=TOKEN_DTYPE).tobytes() for encoding in batch]
    return b"".join(encoded)


class BlockEncoder:
    """Encodes one block after another."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not is_standard(tokenizer):
            raise ValueError("the tokenizer has not the form that train_tokenizer gives it")
        self._tokenizer = tokenizer
        self._blocks = 0
        # Each character of a byte-level BPE's entry stands for one byte.
        entries = (tokenizer.id_to_token(number) for number in range(tokenizer.get_vocab_size()))
        self._sizes = np.array([len(entry or "") for entry in entries], dtype=np.uint16)
        self._sizes[END_OF_TEXT_ID] = len(END_OF_TEXT)
        self._process = psutil.Process()
        self._fast: Any = None
        if gigatoken():
            self._renew()

    def encode(self, data: bytes) -> bytes:
        """Encode a block. Errors: UserError where gigatoken and tokenizers differ."""
        if self._fast is not None and data and is_split_alike(data):
            try:
                return self._encode_fast(data)
            except BaseException as error:
                fall_back(error)
        return encode_with_tokenizers(data, self._tokenizer)

    def _encode_fast(self, data: bytes) -> bytes:
        from gigatoken import BytesSource

        # Of its methods the only one that lets other threads run and does not import `awkward`, for 0.3 s.
        rows, _ = self._fast.encode_batch_padded(BytesSource(data), pad_id=END_OF_TEXT_ID, parallel=False)
        ids = rows.reshape(-1)
        ends = np.cumsum(self._sizes.take(ids), dtype=np.uint32)
        if ends[-1] != len(data):
            raise refuse("ids", data)
        if piece := sample(data, self._blocks):
            start, end = piece
            first, last = np.searchsorted(ends, [start, end], side="right")
            expected = encode_with_tokenizers(data[start:end], self._tokenizer)
            if ids[first:last].astype(TOKEN_DTYPE).tobytes() != expected:
                raise refuse("ids", data[start:end])
        self._blocks += 1
        if self._process.memory_info().rss > self._limit:
            self._renew()
        return bytes(ids.astype(TOKEN_DTYPE).tobytes())

    def _renew(self) -> None:
        """Make a new gigatoken encoder; the one before is dropped with its cache, which grows with every new word."""
        self._fast = None
        try:
            module = gigatoken()
            self._fast = module and module.Tokenizer(self._tokenizer)
        except BaseException as error:
            fall_back(error)
        self._limit = self._process.memory_info().rss + CACHE_BYTES
