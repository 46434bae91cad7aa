"""The model: a decoder-only transformer that transformers' stock class `Qwen3ForCausalLM` computes too.

Rotary positions (Su et al. 2021), RMSNorm before each part (Zhang & Sennrich 2019), normalised queries and keys
(Henry et al. 2020), SwiGLU (Shazeer 2020), no biases, output tied to the embedding.

Letters in shapes: B batch, T tokens, D embedding, H heads, K head size (D / H), F feed-forward, L layers, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinystories.common.params import ModelConfig
from tinystories.model.attention import qk_norm_rope_attention
from tinystories.model.cross_entropy import cross_entropy
from tinystories.model.norm import norm
from tinystories.model.rope import rotation

EMBEDDING_STD = 0.02
# Of what keeps the variance. Muon's steps have a size of their own, and a start half as large as usual with it is
# sooner forgotten: 0.018 nats after 250 steps (docs/log.md).
INIT_SCALE = 0.25


@dataclass(frozen=True)
class Block:
    """The weights of one transformer block, in the precision of the computation."""

    attn_norm: Tensor  # (D,)
    qkv_proj: Tensor  # (3, D, D): queries, keys, values
    q_norm: Tensor  # (K,)
    k_norm: Tensor  # (K,)
    o_proj: Tensor  # (D, D)
    mlp_norm: Tensor  # (D,)
    gate_up_proj: Tensor  # (2, F, D): gate, up
    down_proj: Tensor  # (D, F)


class GPT(nn.Module):
    """The weights and the computation.

    The weights of all blocks are stacked, one tensor for each kind: the optimizer then works on a few large tensors
    instead of many small ones, and the cast of the fp32 weights to the compute dtype is a few operations.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.compute_dtype = compute_dtype
        layers, width, hidden = config.layers, config.embedding_size, config.mlp_size
        self.embedding = nn.Parameter(torch.empty(vocab_size, width))
        self.attn_norm = nn.Parameter(torch.ones(layers, width))
        self.qkv_proj = nn.Parameter(torch.empty(layers, 3, width, width))
        self.q_norm = nn.Parameter(torch.ones(layers, config.head_size))
        self.k_norm = nn.Parameter(torch.ones(layers, config.head_size))
        self.o_proj = nn.Parameter(torch.zeros(layers, width, width))
        self.mlp_norm = nn.Parameter(torch.ones(layers, width))
        self.gate_up_proj = nn.Parameter(torch.empty(layers, 2, hidden, width))
        self.down_proj = nn.Parameter(torch.zeros(layers, width, hidden))
        self.final_norm = nn.Parameter(torch.ones(width))
        cos, sin = rotation(config.context_length, config.head_size)
        self.rope_cos: Tensor
        self.rope_sin: Tensor
        self.register_buffer("rope_cos", cos, persistent=False)
        self.register_buffer("rope_sin", sin, persistent=False)

    def initialize(self, seed: int) -> None:
        """Draw the initial weights, on the CPU so that every device begins with the same.

        Output projections stay zero, so each block begins as the identity. Small embeddings make the first logits
        small: the first loss is that of a uniform guess, ln V.
        """
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.embedding.copy_(torch.randn(self.embedding.shape, generator=generator) * EMBEDDING_STD)
            for weight in (self.qkv_proj, self.gate_up_proj):
                std = INIT_SCALE * weight.shape[-1] ** -0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * std)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of the token that follows each token. Shapes: (B, T) -> (B, T, V), in the compute dtype.

        All tokens are read at once; a text that grows by a token at a time is decoder.py's.
        """
        return F.linear(self._last(tokens), self.embedding.to(self.compute_dtype))

    def _last(self, tokens: Tensor) -> Tensor:
        """What the logits are a product of. Shapes: (B, T) -> (B, T, D)."""
        # The lookup stays in fp32: its gradient adds up many rows, which bf16 would round away.
        embedded: Tensor = DeterministicEmbedding.apply(self.embedding, tokens)  # type: ignore[no-untyped-call]
        x_BTD = embedded.to(self.compute_dtype)
        for block in self.blocks():
            x_BTD = x_BTD + self._attention(block, x_BTD)
            x_BTD = x_BTD + self._feed_forward(block, x_BTD)
        return norm(x_BTD, self.final_norm.to(self.compute_dtype))

    def loss(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats a token, computed in fp32. Shapes: (B, T), (B, T) -> ()."""
        x_ND = self._last(tokens).flatten(0, 1)
        losses = cross_entropy(x_ND, self.embedding.to(self.compute_dtype), targets.flatten())
        loss: Tensor = losses.mean() if reduction == "mean" else losses.sum()
        return loss

    def parameter_count(self) -> int:
        """Trained numbers, the tied embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def inference_copy(self, dtype: torch.dtype | None = None) -> "GPT":
        """A copy for inference, its weights already in the precision of the computation."""
        dtype = dtype or self.compute_dtype
        copy = GPT(self.config, self.vocab_size, dtype).to(self.embedding.device)
        copy.load_state_dict(self.state_dict())
        copy.requires_grad_(False)
        for parameter in copy.parameters():
            parameter.data = parameter.data.to(dtype)
        return copy

    def blocks(self) -> list[Block]:
        """The weights of each block, from the first."""
        stacks = (
            self.attn_norm,
            self.qkv_proj,
            self.q_norm,
            self.k_norm,
            self.o_proj,
            self.mlp_norm,
            self.gate_up_proj,
            self.down_proj,
        )
        # unbind, not indexing: its gradient is one stack instead of a sum of L mostly empty tensors.
        return [Block(*weights) for weights in zip(*(s.to(self.compute_dtype).unbind() for s in stacks), strict=True)]

    def _attention(self, block: Block, x_BTD: Tensor) -> Tensor:
        batch, length, width = x_BTD.shape
        projected = F.linear(norm(x_BTD, block.attn_norm), block.qkv_proj.flatten(0, 1))
        projected = projected.view(batch, length, 3, self.config.heads, self.config.head_size)
        gains = torch.stack((block.q_norm, block.k_norm))
        mixed = qk_norm_rope_attention(projected, gains, self.rope_cos[:length], self.rope_sin[:length])
        return F.linear(mixed.reshape(batch, length, width), block.o_proj)

    def _feed_forward(self, block: Block, x_BTD: Tensor) -> Tensor:
        projected = F.linear(norm(x_BTD, block.mlp_norm), block.gate_up_proj.flatten(0, 1))
        gate, up = projected.chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, block.down_proj)


class DeterministicEmbedding(torch.autograd.Function):
    """F.embedding, whose gradient a CPU always adds up in the same order. Shapes: (V, D), (B, T) -> (B, T, D).

    What torch.compile makes of it adds in the order in which the threads come, so a training would never be the same
    twice. An operator of our own it leaves as it is.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows = len(table)
        return F.embedding(tokens, table)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (tokens,) = ctx.saved_tensors
        ops = torch.ops.tinystories if gradient.device.type == "cpu" else torch.ops.aten
        return ops.embedding_dense_backward(gradient, tokens, ctx.rows, -1, False), None


@torch.library.custom_op("tinystories::embedding_dense_backward", mutates_args=(), device_types="cpu")
def _add_rows(gradient: Tensor, tokens: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    of_table: Tensor = torch.ops.aten.embedding_dense_backward(gradient, tokens, rows, padding, by_frequency)
    return of_table


@_add_rows.register_fake
def _(gradient: Tensor, tokens: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    return gradient.new_empty(rows, gradient.shape[-1])
