"""The model as a writer of texts uses it: a token at a time, the keys and values of those before it kept.

It computes what `GPT.forward` computes, with fewer and cheaper operations for few tokens: weights are prepared once,
nothing is moved but a new token's keys and values, and only the last token of a text gets logits.
Letters in shapes are those of model.py; B is the number of texts read at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.attention import NORM_EPSILON, norm
from tinystories.model import GPT

_Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Layer:
    norm_attention: Tensor  # (D,)
    attention_in: _Product  # D -> 3 D
    attention_out: _Product  # D -> D
    norm_feed_forward: Tensor  # (D,)
    feed_forward_in: _Product  # D -> 2 F
    feed_forward_out: _Product  # F -> D


class Decoder:
    """Reads up to `rows` texts side by side, each at its own position."""

    def __init__(self, model: GPT, rows: int) -> None:
        shape, dtype, device = model.shape, model.compute_dtype, model.embedding.device
        self._heads = shape.heads, shape.head_size

        def products(weights: Tensor) -> list[_Product]:
            return [_product(weight, rows) for weight in weights.to(dtype)]

        self._layers = [
            _Layer(*parts)
            for parts in zip(
                model.norm_attention.to(dtype),
                products(model.attention_in.flatten(1, 2)),
                products(model.attention_out),
                model.norm_feed_forward.to(dtype),
                products(model.feed_forward_in.flatten(1, 2)),
                products(model.feed_forward_out),
                strict=True,
            )
        ]
        self._embedding, self._norm_final = model.embedding.to(dtype), model.norm_final.to(dtype)
        self._logits = _product(self._embedding, rows)
        # Normalised queries and keys get their gain and are turned by their position. Both are a product with a cosine
        # and, of the other half, with a sine: the gains are in these tables, and so is the scale of the scores.
        gain = torch.stack((model.norm_query * shape.head_size**-0.5, model.norm_key), dim=1)[:, None, :, None]
        half = shape.head_size // 2
        sin = torch.cat((-model.rotation_sin[:, :half], model.rotation_sin[:, half:]), dim=1)
        self._cos = (gain * model.rotation_cos[:, None, None]).to(dtype)  # (L, T, 2, 1, K)
        self._sin = (gain.roll(half, -1) * sin[:, None, None]).to(dtype)
        # Keys and values: (L, 2, rows, H, T, K). Zeros, for what hides a slot is a share of 0, and 0 times NaN is NaN.
        slots = (shape.layers, 2, rows, shape.heads, shape.context_length, shape.head_size)
        self._slots = torch.zeros(slots, dtype=dtype, device=device)

    def read(self, rows: list[int], texts: Sequence[Sequence[int]]) -> None:
        """Let these rows start anew with these texts, of up to context_length tokens each."""
        longest = max(map(len, texts), default=0)
        if longest:
            # What pads a shorter text fills slots beyond it, which no token sees before its own is written there.
            tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
            self._forward(tokens, torch.arange(longest).expand(len(texts), longest), rows)

    def next_logits(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Read one token, at its position from 0, in each of the first B rows; logits of what follows, (B, V)."""
        x_BD = self._forward(torch.tensor(tokens)[:, None], torch.tensor(positions)[:, None], slice(len(tokens)))
        return self._logits(norm(x_BD, self._norm_final))

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
        for layer, slots, cos, sin in zip(self._layers, self._slots, *tables, strict=True):
            qkv = layer.attention_in(norm(x, layer.norm_attention)).view(batch, length, 3, heads, head_size)
            qk = F.rms_norm(qkv[:, :, :2], (head_size,), None, NORM_EPSILON)
            qkv[:, :, :2] = torch.addcmul(qk * cos, qk.roll(head_size // 2, -1), sin)
            slots[:, index, :, positions] = qkv[:, :, 1:]
            keys, values = slots[:, rows, :, :seen]
            # On a CPU these products are faster than the fused attention for one query a text.
            scores = (qkv[:, :, 0].transpose(1, 2) @ keys.mT).add_(bias)
            mixed = (scores.softmax(-1) @ values).transpose(1, 2).reshape(batch * length, -1)
            x = x + layer.attention_out(mixed)
            gate, up = layer.feed_forward_in(norm(x, layer.norm_feed_forward)).chunk(2, dim=-1)
            x = x + layer.feed_forward_out(F.silu(gate) * up)
        return x


def _product(weight: Tensor, rows: int) -> _Product:
    """x -> x Wᵀ. On a CPU the time goes into reading the weights, and these ways of doing it are the fastest found."""
    many = rows > 8 or weight.dtype == torch.bfloat16
    packable = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if weight.device.type == "cpu" and weight.dtype != torch.float64 and many and packable:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)  # laid out once as oneDNN reads it
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")
    if (
        rows == 1 and weight.device.type == "cpu"
    ):  # MKL's product with a matrix of two columns is faster than with a vector
        return lambda x: (weight @ x.repeat(2, 1).t()).t()[: len(x)].contiguous()
    return lambda x: (weight @ x.t()).t().contiguous()  # which MKL spreads over threads, unlike x Wᵀ
