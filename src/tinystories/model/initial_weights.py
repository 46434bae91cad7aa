"""The initial weights: random, but for two things that a training takes hundreds of steps to find.

- Half of the heads attend to the tokens 1, 2, 3 ... before. Without biases a query cannot say "the token before" unless
  all tokens have something in common, so the embedding begins with one component that is the same for all. It adds the
  same to all logits, so that it changes no prediction, and the last norm leaves it out.
- In the middle block, values and outputs together begin as a small identity: attention adds what it attends to. With
  tied embeddings that makes the attended words more likely, as a name that was mentioned before.

How much each gains is in docs/log.md. Letters in shapes: as in gpt.py.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.model.rope import rope_frequencies

EMBEDDING_STD = 0.02
# The output is tied to the embedding, so a token begins with a logit of std · D for itself. Wider models get a smaller
# std: at 768 that logit would be 15, and the first loss as large.
MAX_OWN_LOGIT = 5.12
# Times the std that keeps the variance. Muon's steps have a size of their own, so a small start is forgotten sooner:
# 0.018 nats after 250 steps (docs/log.md).
INIT_SCALE = 0.25
COPY_SCALE = 0.35  # of the middle block's values, and of its outputs
POSITION_SCALE = 0.8  # of the queries and keys that attend a fixed distance back; the random ones beside it: INIT_SCALE
MIN_FREQUENCY = 0.05  # radians a token: slower rotations hardly tell positions apart


@torch.no_grad()
def initialize(weights: Mapping[str, Tensor], config: ModelConfig, seed: int) -> None:
    """Draw the weights of a GPT, by name, on the CPU so that every device begins with the same.

    Norms stay 1, but for what the last one leaves out. All output projections but one stay zero, so each block but the
    middle one begins as the identity. Small embeddings make the first logits small: the first loss is that of a uniform
    guess, ln V.
    """
    generator = torch.Generator().manual_seed(seed)
    embedding = weights["embedding"]
    std = min(EMBEDDING_STD, MAX_OWN_LOGIT / config.embedding_size)
    embedding.copy_(torch.randn(embedding.shape, generator=generator) * std)
    for name in ("qkv_proj", "gate_up_proj"):
        weight = weights[name]
        scale = INIT_SCALE * weight.shape[-1] ** -0.5
        weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    embedding[:, 0] = std * config.embedding_size**0.5  # as large as all other components together
    weights["final_norm"][0] = 0
    _attend_back(weights["qkv_proj"], config)
    copying = COPY_SCALE * torch.eye(config.embedding_size)
    weights["qkv_proj"][config.layers // 2, 2] = copying
    weights["o_proj"][config.layers // 2] = copying


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
