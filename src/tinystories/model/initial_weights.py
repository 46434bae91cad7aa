"""The initial weights: random, but for four things that a training takes hundreds of steps to find.

- The logits are those of the tokens' frequencies. The embedding has one component that is much the same for all tokens,
  and a little larger for frequent ones; the last norm turns it into their logits.
- Tokens that stand in the same contexts have similar embeddings (cooccurrence.py). Where many are alike, as names are,
  each has something random of its own too: what is copied must be told apart.
- Half of the heads attend to the tokens 1, 2, 3 ... before. Without biases a query cannot say "the token before" unless
  all tokens have something in common, which is that component.
- In the middle block, values and outputs together begin as a small identity: attention adds what it attends to. With
  tied embeddings that makes the attended words more likely, as a name that was mentioned before.

How much each gains is in docs/log.md. Letters in shapes: as in gpt.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.model.cooccurrence import cooccurrence_embedding, crowding
from tinystories.model.rope import rope_frequencies

EMBEDDING_STD = 0.2
# The output is tied to the embedding, so a token begins with a logit of std · D · the last norm's weight for itself.
# Wider models get a smaller weight: at 768 that logit would be 15, and the first loss as large.
FINAL_NORM = 0.1
MAX_OWN_LOGIT = 5.12
# Times the std that keeps the variance. Muon's steps have a size of their own, so a small start is forgotten sooner:
# 0.018 nats after 250 steps (docs/log.md).
INIT_SCALE = 0.25
COPY_SCALE = 4.0  # of the middle block's values, and of its outputs, times D ** -0.5
POSITION_SCALE = 0.8  # of the queries and keys that attend a fixed distance back; the random ones beside it: INIT_SCALE
FREQUENCY_SCALE = 0.3  # of the logarithm of a token's frequency, in the embedding
MAX_CROWDING = 0.7  # cosine to the tenth nearest token, from which on a token begins with something of its own
MIN_FREQUENCY = 0.05  # radians a token: slower rotations hardly tell positions apart


@torch.no_grad()
def initialize(weights: Mapping[str, Tensor], config: ModelConfig, seed: int, tokens: Tensor | None = None) -> None:
    """Draw the weights of a GPT, by name, on the CPU so that every device begins with the same.

    `tokens`: of those to train on, (N,), int64, from whose counts the embedding begins; without any it is random. Norms
    stay 1, but for the last one. All output projections but one stay zero, so each block but the middle one begins as
    the identity. A small last norm makes the first logits small: the first loss is near that of a uniform guess, ln V,
    or with tokens that of their frequencies.
    """
    generator = torch.Generator().manual_seed(seed)
    embedding, final_norm, width = weights["embedding"], weights["final_norm"], config.embedding_size
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * EMBEDDING_STD)
    embedding[:, 0] = EMBEDDING_STD * width**0.5  # as large as all other components together
    final_norm.fill_(min(FINAL_NORM, MAX_OWN_LOGIT / (EMBEDDING_STD * width)))
    final_norm[0] = 0
    if tokens is not None:
        _begin_from_counts(embedding, final_norm, tokens, generator)
    for name in ("qkv_proj", "gate_up_proj"):
        weight = weights[name]
        scale = INIT_SCALE * weight.shape[-1] ** -0.5
        weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    _attend_back(weights["qkv_proj"], config)
    copying = COPY_SCALE * width**-0.5 * torch.eye(width)
    weights["qkv_proj"][config.layers // 2, 2] = copying
    weights["o_proj"][config.layers // 2] = copying


def _begin_from_counts(embedding: Tensor, final_norm: Tensor, tokens: Tensor, generator: torch.Generator) -> None:
    """Make tokens similar that stand in the same contexts, and the logits those of frequencies."""
    vocab_size, width = embedding.shape
    counts = torch.bincount(tokens, minlength=vocab_size)
    similar = cooccurrence_embedding(tokens, vocab_size, width, generator)
    share = (MAX_CROWDING / crowding(similar).clamp(min=MAX_CROWDING)) ** 2  # of the variance
    embedding[:, 1:] *= (1 - share).sqrt()
    embedding[:, 1:] += share.sqrt() * EMBEDDING_STD * similar[:, 1:]
    log_frequency = (counts + 1).double().log()
    embedding[:, 0] += FREQUENCY_SCALE * (log_frequency - log_frequency.mean())
    # The first component is 1 / √2 of the residual stream, which the last norm makes √D long.
    final_norm[0] = 1 / (FREQUENCY_SCALE * (width / 2) ** 0.5)


def _attend_back(qkv_proj: Tensor, config: ModelConfig) -> None:
    """Let head h of the first half attend most to the token h + 1 before. Shape: (L, 3, D, D)."""
    frequencies = rope_frequencies(config.head_size)
    fast = (frequencies > MIN_FREQUENCY).float()
    query = torch.cat((fast, torch.zeros_like(fast)))
    scale = POSITION_SCALE * config.embedding_size**-0.5
    for head in range(config.heads // 2):
        # RoPE turns a key by its position: turned by some tokens more, it meets the query so many tokens later.
        angles = (head + 1) * frequencies
        key = torch.cat((fast * angles.cos(), fast * angles.sin()))
        rows = slice(head * config.head_size, (head + 1) * config.head_size)
        qkv_proj[:, 0, rows, 0] = scale * query
        qkv_proj[:, 1, rows, 0] = scale * key
