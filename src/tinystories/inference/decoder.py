"""The model as a writer of texts uses it: a token at a time, the keys and values of those before it kept.

It computes what `GPT.forward` computes, with fewer operations: nothing is moved but a new token's keys and values, and
only the last token of a text gets logits. This is for every device; fast_decoder.py is for a CPU with a compiler.
Letters in shapes are those of model.py; B is the number of texts read at once.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.model.cpu_kernels import get_kernels
from tinystories.model.gpt import GPT
from tinystories.model.norm import NORM_EPSILON, norm


class Decoder:
    """Reads up to `rows` texts side by side, each at its own position."""

    def __init__(self, model: GPT, rows: int) -> None:
        config, dtype, device = model.config, model.compute_dtype, model.embedding.device
        self._heads = config.heads, config.head_size
        self._blocks = model.blocks()
        self._embedding, self._norm_final = model.embedding.to(dtype), model.final_norm.to(dtype)
        # Normalised queries and keys get their gain and are turned by their position. Both are a product with a cosine
        # and, of the other half, with a sine: the gains are in these tables, and so is the scale of the scores.
        gain = torch.stack((model.q_norm * config.head_size**-0.5, model.k_norm), dim=1)[:, None, :, None]
        half = config.head_size // 2
        sin = torch.cat((-model.rope_sin[:, :half], model.rope_sin[:, half:]), dim=1)
        self._cos = (gain * model.rope_cos[:, None, None]).to(dtype)  # (L, T, 2, 1, K)
        self._sin = (gain.roll(half, -1) * sin[:, None, None]).to(dtype)
        # Keys and values: (L, 2, rows, H, T, K). Zeros, for what hides a slot is a share of 0, and 0 times NaN is NaN.
        slots = (config.layers, 2, rows, config.heads, config.context_length, config.head_size)
        self._slots = torch.zeros(slots, dtype=dtype, device=device)

    def read(self, rows: list[int], texts: Sequence[Sequence[int]]) -> None:
        """Let these rows start anew with these texts, of up to context_length tokens each."""
        longest = max(map(len, texts), default=0)
        if longest:
            # What pads a shorter text fills slots beyond it, which no token sees before its own is written there.
            tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
            self._forward(tokens, torch.arange(longest).expand(len(texts), longest), rows)

    def decode_step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Read one token, at its position from 0, in each of the first B rows; logits of what follows, (B, V)."""
        x_BD = self._forward(torch.tensor(tokens)[:, None], torch.tensor(positions)[:, None], slice(len(tokens)))
        return F.linear(norm(x_BD, self._norm_final), self._embedding)

    def move(self, source: int, target: int) -> None:
        """Let row `target` go on with the text of row `source`."""
        self._slots[:, :, target] = self._slots[:, :, source]

    def _forward(self, tokens: Tensor, positions: Tensor, rows: slice | list[int]) -> Tensor:
        """Tokens and their positions, (B, T) both, through all layers. Shape: (B * T, D)."""
        batch, length = tokens.shape
        heads, head_size = self._heads
        seen = int(positions.max()) + 1
        device = self._slots.device
        tokens, positions = tokens.to(device), positions.to(device)
        later = torch.arange(seen, device=device) > positions[:, None, :, None]
        bias = torch.zeros(later.shape, dtype=self._slots.dtype, device=device).masked_fill_(later, float("-inf"))
        index = torch.arange(self._slots.shape[2], device=device)[rows, None]
        x = F.embedding(tokens.flatten(), self._embedding)
        tables = self._cos[:, positions], self._sin[:, positions]
        for block, slots, cos, sin in zip(self._blocks, self._slots, *tables, strict=True):
            qkv = F.linear(norm(x, block.attn_norm), block.qkv_proj.flatten(0, 1))
            qkv = qkv.view(batch, length, 3, heads, head_size)
            qk = F.rms_norm(qkv[:, :, :2], (head_size,), None, NORM_EPSILON)
            qkv[:, :, :2] = torch.addcmul(qk * cos, qk.roll(head_size // 2, -1), sin)
            slots[:, index, :, positions] = qkv[:, :, 1:]
            keys, values = slots[:, rows, :, :seen]
            # On a CPU these products are faster than the fused attention for one query a text.
            scores = (qkv[:, :, 0].transpose(1, 2) @ keys.mT).add_(bias)
            mixed = (scores.softmax(-1) @ values).transpose(1, 2).reshape(batch * length, -1)
            x = x + F.linear(mixed, block.o_proj)
            gate, up = F.linear(norm(x, block.mlp_norm), block.gate_up_proj.flatten(0, 1)).chunk(2, dim=-1)
            x = x + F.linear(F.silu(gate) * up, block.down_proj)
        return x


def make_decoder(model: GPT, rows: int) -> "Decoder | CpuDecoder":
    """The faster of the two, where it can be had: where `compile_kernels` was successful."""
    on_cpu = model.embedding.device.type == "cpu"
    fast = on_cpu and get_kernels(model.config.head_size, model.compute_dtype)
    return (CpuDecoder if fast else Decoder)(model, rows)
