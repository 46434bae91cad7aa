"""Blocks of stories as bytes, and the process that writes a share of them to its standard output.

It imports nothing but the generator, so that it starts in 0.05 s. It ends with its reader: once nobody can read what it
writes, the next write ends it, however the reader ended.
"""

import signal
import sys
from collections.abc import Iterable, Iterator
from itertools import islice

from tinystories.sources import storygen

BLOCK_STORIES = 64  # a block, about 60 kB, fits into a pipe: a process need not wait until its block is read
LENGTH_BYTES = 4  # of the number before each block


def block_ranges(counts: Iterable[int]) -> Iterator[range]:
    """Yield the numbers of the stories of each block. `counts`: stories in each split; no block belongs to two."""
    start = 0
    for count in counts:
        for first in range(start, start + count, BLOCK_STORIES):
            yield range(first, min(first + BLOCK_STORIES, start + count))
        start += count


def encode_block(seed: int, numbers: range, story_end: str) -> bytes:
    """Return these stories of `seed`, each followed by `story_end`, as UTF-8."""
    return "".join(f"{story}{story_end}" for story in storygen.stories(seed, numbers.start, len(numbers))).encode()


def main(seed: int, story_end: str, first: int, step: int, counts: list[int]) -> None:
    """Write every `step`-th block from block `first` to the standard output, each after its length."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # no traceback where the reader has ended
    for numbers in islice(block_ranges(counts), first, None, step):
        block = encode_block(seed, numbers, story_end)
        sys.stdout.buffer.write(len(block).to_bytes(LENGTH_BYTES, "little") + block)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), list(map(int, sys.argv[5:])))
