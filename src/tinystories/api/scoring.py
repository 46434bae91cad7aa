"""Scoring texts: how well the model predicts each token of a story.

Each story begins on its own, after an end-of-text, and its end is predicted too: an end-of-text. Where it outgrows the
context, the model sees of it what it would see if it had generated it.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tinystories.api.stories import compile_for
from tinystories.api.text import StreamDecoder, encode
from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.inference.generate import truncated_length
from tinystories.inference.loss_eval import perplexity
from tinystories.model import ops
from tinystories.model.gpt import GPT

_TOKENS_AT_ONCE = 4096  # in one forward pass; their logits are the largest tensor
_BLOCK_TOKENS = 65_536  # of the stories whose windows are sorted by length
COMPILE_FROM_TOKENS = 20_000


@dataclass(frozen=True)
class Figures:
    """The loss of a text: `nats` in all, over `tokens` predicted tokens that encode `bytes` bytes and the ends."""

    nats: float
    tokens: int
    bytes: int

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        return perplexity(self.loss)

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers. The loss of the stories' ends counts."""
        return self.nats / self.bytes / math.log(2)


@dataclass(frozen=True)
class StoryScore(Figures):
    """The score of one story. `token_bits` has the text of each token and the bits that it cost, its end last.

    A character of several tokens stands with the last of them; the others have no text.
    """

    text: str
    token_bits: list[tuple[str, float]]


@dataclass(frozen=True)
class Score(Figures):
    """The score of a text, and those of its stories."""

    stories: list[StoryScore]


def total(scores: Sequence[Figures]) -> Figures:
    """Add up the figures of one or more stories."""
    return Figures(
        math.fsum(score.nats for score in scores),
        sum(score.tokens for score in scores),
        sum(score.bytes for score in scores),
    )


def score_stories(gpt: GPT, tokenizer: Tokenizer, stories: Iterable[str]) -> Iterator[StoryScore]:
    """Score each story, in order; several are computed at once."""
    block: list[tuple[str, list[int]]] = []
    size = 0
    for story in stories:
        block.append((story, [END_OF_TEXT_ID, *encode(tokenizer, story), END_OF_TEXT_ID]))
        size += len(block[-1][1])
        if size >= _BLOCK_TOKENS:
            yield from _score_block(gpt, tokenizer, block)
            block, size = [], 0
    yield from _score_block(gpt, tokenizer, block)


def _score_block(gpt: GPT, tokenizer: Tokenizer, block: list[tuple[str, list[int]]]) -> Iterator[StoryScore]:
    compile_for(gpt, sum(len(ids) for _, ids in block), COMPILE_FROM_TOKENS)
    for (story, ids), nats in zip(block, token_losses(gpt, [ids for _, ids in block]), strict=True):
        decoder = StreamDecoder(tokenizer)
        texts = [*(decoder.add(token) for token in ids[1:-1]), END_OF_TEXT]
        bits = (nats / math.log(2)).tolist()
        yield StoryScore(
            nats=nats.sum().item(),
            tokens=len(nats),
            bytes=len(story.encode()),
            text=story,
            token_bits=list(zip(texts, bits, strict=True)),
        )


@torch.inference_mode()
def token_losses(gpt: GPT, sequences: Sequence[list[int]]) -> list[Tensor]:
    """The loss of each token of each sequence but its first, in nats, in fp64. Shapes: (tokens - 1,)."""
    losses = [torch.empty(len(ids) - 1, dtype=torch.float64) for ids in sequences]
    windows = [
        (number, start, skipped)
        for number, ids in enumerate(sequences)
        for start, skipped in _windows(len(ids) - 1, gpt.config.context_length)
    ]

    def inputs(number: int, start: int) -> list[int]:
        return sequences[number][start : min(start + gpt.config.context_length, len(sequences[number]) - 1)]

    windows.sort(key=lambda window: len(inputs(*window[:2])))
    while windows:
        longest = len(inputs(*windows[-1][:2]))
        rows = max(_TOKENS_AT_ONCE // longest, 1)
        batch, windows = windows[-rows:], windows[:-rows]
        # A shorter window is padded at its end, where no token of it looks.
        padded = torch.zeros(len(batch), longest + 1, dtype=torch.int64)
        for row, (number, start, _) in zip(padded, batch, strict=True):
            ids = sequences[number][start : start + longest + 1]
            row[: len(ids)] = torch.tensor(ids)
        x = gpt.hidden_states(padded[:, :-1]).flatten(0, 1)
        found = ops.cross_entropy(x, gpt.embedding.to(gpt.compute_dtype), padded[:, 1:].flatten())
        for row, (number, start, skipped) in zip(found.view(len(batch), longest).double(), batch, strict=True):
            count = len(inputs(number, start))
            losses[number][start + skipped : start + count] = row[skipped:count]
    return losses


def _windows(tokens: int, context: int) -> list[tuple[int, int]]:
    """Where each window begins, and how many of its predictions an earlier one has made: see `generate`."""
    kept = truncated_length(context)
    later = range(context + 1 - kept, tokens - kept + 1, context + 1 - kept)
    return [(0, 0), *((start, kept - 1) for start in later)]
