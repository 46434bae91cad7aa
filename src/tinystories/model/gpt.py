"""The model: a decoder-only transformer that transformers' stock class `Qwen3ForCausalLM` computes too.

RoPE (Su et al. 2021), RMSNorm before each part (Zhang & Sennrich 2019), QK-norm (Henry et al. 2020), SwiGLU (Shazeer
2020), no biases, output tied to the embedding.

Letters in shapes: B batch, T tokens, D embedding, H heads, K head size (D / H), F MLP, L layers, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinystories.common.params import ModelConfig
from tinystories.model import ops
from tinystories.model.initial_weights import initialize
from tinystories.model.kv_cache import KVCache
from tinystories.model.norm import norm
from tinystories.model.rope import rope_cos_sin


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
    """The weights and the forward pass.

    The weights of all blocks are stacked, one tensor for each kind. So the optimizer works on a few large tensors
    instead of many small ones, and the cast of the fp32 weights to the compute dtype is a few operations.
    """

    def __init__(self, config: ModelConfig, vocab_size: int, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.compute_dtype = compute_dtype
        self._inference_blocks: list[Block] | None = None
        layers, width, mlp_size = config.layers, config.embedding_size, config.mlp_size
        self.embedding = nn.Parameter(torch.empty(vocab_size, width))
        self.attn_norm = nn.Parameter(torch.ones(layers, width))
        self.qkv_proj = nn.Parameter(torch.empty(layers, 3, width, width))
        self.q_norm = nn.Parameter(torch.ones(layers, config.head_size))
        self.k_norm = nn.Parameter(torch.ones(layers, config.head_size))
        self.o_proj = nn.Parameter(torch.zeros(layers, width, width))
        self.mlp_norm = nn.Parameter(torch.ones(layers, width))
        self.gate_up_proj = nn.Parameter(torch.empty(layers, 2, mlp_size, width))
        self.down_proj = nn.Parameter(torch.zeros(layers, width, mlp_size))
        self.final_norm = nn.Parameter(torch.ones(width))
        cos, sin = rope_cos_sin(config.context_length, config.head_size)
        self.rope_cos: Tensor
        self.rope_sin: Tensor
        self.register_buffer("rope_cos", cos, persistent=False)
        self.register_buffer("rope_sin", sin, persistent=False)

    def initialize(self, seed: int, tokens: Tensor | None = None) -> None:
        """Draw the initial weights of a new model, from tokens to train on if there are any. Shape: (N,).

        The model is on the CPU. See initial_weights.py.
        """
        initialize(dict(self.named_parameters()), self.config, seed, tokens)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the token that follows each token. Shapes: (B, T) -> (B, T, V), in the compute dtype.

        Without a cache, each row is a text from its beginning. With one, tokens stand where `cache.begin` said, and
        attend to the keys and values that the cache holds. `CpuDecoder` is the fast twin of that on a CPU:
        tests/inference/test_decoder.py::test_decode_step_equals_forward holds all three equal.
        """
        return F.linear(self.hidden_states(tokens, cache), self.embedding.to(self.compute_dtype))

    def hidden_states(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """What the logits are a product of, the residual stream after its last norm. Shapes: (B, T) -> (B, T, D)."""
        # The lookup stays in fp32: its gradient adds up many rows, which bf16 would round away.
        embedded: Tensor = DeterministicEmbedding.apply(self.embedding, tokens)  # type: ignore[no-untyped-call]
        x_BTD = embedded.to(self.compute_dtype)
        for layer, block in enumerate(self.blocks()):
            x_BTD = x_BTD + self._attention(layer, block, x_BTD, cache)
            x_BTD = x_BTD + self._mlp(block, x_BTD)
        return norm(x_BTD, self.final_norm.to(self.compute_dtype))

    def loss(self, tokens: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
        """Cross-entropy in nats a token, computed in fp32. Shapes: (B, T), (B, T) -> ()."""
        x_ND = self.hidden_states(tokens).flatten(0, 1)
        losses = ops.cross_entropy(x_ND, self.embedding.to(self.compute_dtype), targets.flatten())
        loss: Tensor = losses.mean() if reduction == "mean" else losses.sum()
        return loss

    def parameter_count(self) -> int:
        """Trained numbers, the tied embedding counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def inference_copy(self, dtype: torch.dtype | None = None) -> "GPT":
        """A copy for inference, whose weights are already in the compute dtype, `dtype` or else the model's."""
        dtype = dtype or self.compute_dtype
        copy = GPT(self.config, self.vocab_size, dtype).to(self.embedding.device)
        copy.load_state_dict(self.state_dict())
        copy.requires_grad_(False)
        for parameter in copy.parameters():
            parameter.data = parameter.data.to(dtype)
        copy._inference_blocks = copy.blocks()  # views of the weights, made once and not in every step
        return copy

    def kv_cache(self, rows: int) -> KVCache:
        """An empty cache for `rows` texts of up to context_length tokens."""
        return KVCache(self.config, rows, self.q_norm, self.k_norm, self.rope_cos, self.rope_sin, self.compute_dtype)

    def blocks(self) -> list[Block]:
        """The weights of each block, from the first, in the compute dtype."""
        if self._inference_blocks:
            return self._inference_blocks
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

    def _attention(self, layer: int, block: Block, x_BTD: Tensor, cache: KVCache | None) -> Tensor:
        batch, length, width = x_BTD.shape
        qkv = F.linear(norm(x_BTD, block.attn_norm), block.qkv_proj.flatten(0, 1))
        qkv = qkv.view(batch, length, 3, self.config.heads, self.config.head_size)
        if cache:
            attn_out = cache.attention(layer, qkv)
        else:
            qk_norm_weight = torch.stack((block.q_norm, block.k_norm))
            attn_out = ops.qk_norm_rope_attention(qkv, qk_norm_weight, self.rope_cos[:length], self.rope_sin[:length])
        return F.linear(attn_out.reshape(batch, length, width), block.o_proj)

    def _mlp(self, block: Block, x_BTD: Tensor) -> Tensor:
        gate_up = F.linear(norm(x_BTD, block.mlp_norm), block.gate_up_proj.flatten(0, 1))
        gate, up = gate_up.chunk(2, dim=-1)
        return F.linear(F.silu(gate) * up, block.down_proj)


class DeterministicEmbedding(torch.autograd.Function):
    """F.embedding, whose gradient a CPU always adds up in the same order. Shapes: (V, D), (B, T) -> (B, T, D).

    What torch.compile makes of PyTorch's own adds in the order in which the threads come, so no training would repeat
    another. An operator of our own it leaves as it is.
    """

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows = len(embedding)
        return F.embedding(tokens, embedding)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None]:
        (tokens,) = ctx.saved_tensors
        namespace = torch.ops.tinystories if grad_out.device.type == "cpu" else torch.ops.aten
        return namespace.embedding_dense_backward(grad_out, tokens, ctx.rows, -1, False), None


@torch.library.custom_op("tinystories::embedding_dense_backward", mutates_args=(), device_types="cpu")
def embedding_backward(grad_out: Tensor, tokens: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    """PyTorch's own, as an operator that torch.compile leaves alone."""
    grad_embedding: Tensor = torch.ops.aten.embedding_dense_backward(grad_out, tokens, rows, padding, by_frequency)
    return grad_embedding


@embedding_backward.register_fake
def _(grad_out: Tensor, tokens: Tensor, rows: int, padding: int, by_frequency: bool) -> Tensor:
    return grad_out.new_empty(rows, grad_out.shape[-1])
