"""The keys and values of texts that are being decoded.

Letters in shapes: B batch, T tokens, H heads, K head size, L layers; S is `kv_len`, the positions attended to.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.model.stock_config import NORM_EPSILON


class KVCache:
    """Keys and values of `rows` texts, for `GPT.forward`: each call adds those of its tokens and attends over all.

    `begin` says before each call where its tokens stand. `q_norm_LK`, `k_norm_LK`, `cos_TK` and `sin_TK` are the
    model's; T is the context length.
    """

    def __init__(
        self, config: ModelConfig, rows: int, q_norm_LK: Tensor, k_norm_LK: Tensor, cos_TK: Tensor, sin_TK: Tensor,
        dtype: torch.dtype,
    ) -> None:  # fmt: skip
        self._head_size, self._half = config.head_size, config.head_size // 2
        # Norm weight and rotation are a product with a cosine and, of the other half of a head, one with a sine. The
        # weights are folded into these tables, and the scale of the scores too. Shapes: (L, T, 2, 1, K).
        weight = torch.stack((q_norm_LK * config.head_size**-0.5, k_norm_LK), dim=1)[:, None, :, None]
        signed_sin = torch.cat((-sin_TK[:, : self._half], sin_TK[:, self._half :]), dim=1)
        self._cos = (weight * cos_TK[:, None, None]).to(dtype)
        self._sin = (weight.roll(self._half, -1) * signed_sin[:, None, None]).to(dtype)
        # Zeros, because the future mask gives a position a weight of 0, and 0 times NaN is NaN.
        size = (config.layers, 2, rows, config.heads, config.context_length, config.head_size)
        self._kv = torch.zeros(size, dtype=dtype, device=cos_TK.device)
        self._kv_of_layer = self._kv.unbind()
        self._row_ids = torch.arange(rows, device=cos_TK.device)[:, None]
        self._position_ids = torch.arange(config.context_length, device=cos_TK.device)

    def begin(self, rows: slice | list[int], positions_BT: Tensor, kv_len: int) -> None:
        """Say which rows the next call's tokens belong to, and at which position of its text each token stands.

        `kv_len` is the largest position and one. Errors: IndexError for a row or position that is not there.
        """
        positions = positions_BT.to(self._kv.device)
        self._rows, self._positions, self._kv_len = rows, positions, kv_len
        self._row_index = self._row_ids[rows]
        self._cos_now, self._sin_now = self._cos[:, positions].unbind(), self._sin[:, positions].unbind()
        future_mask = self._position_ids[:kv_len] > positions[:, None, :, None]
        bias = torch.zeros(future_mask.shape, dtype=self._kv.dtype, device=self._kv.device)
        self._bias = bias.masked_fill_(future_mask, float("-inf"))  # (B, 1, T, S)

    def attention(self, layer: int, qkv_BT3HK: Tensor) -> Tensor:
        """`ops.qk_norm_rope_attention` over what is cached, after adding these keys and values. Shape: (B, T, H, K).

        `qkv` is written over.
        """
        kv, cos, sin = self._kv_of_layer[layer], self._cos_now[layer], self._sin_now[layer]
        qk, new_kv = qkv_BT3HK.narrow(2, 0, 2), qkv_BT3HK.narrow(2, 1, 2)
        normed = F.rms_norm(qk, (self._head_size,), None, NORM_EPSILON)
        torch.addcmul(normed * cos, normed.roll(self._half, -1), sin, out=qk)
        kv[:, self._row_index, :, self._positions] = new_kv
        keys, values = kv[:, self._rows, :, : self._kv_len]
        # On a CPU these products are faster than the fused attention for one query a text.
        scores = (qkv_BT3HK.select(2, 0).transpose(1, 2) @ keys.mT).add_(self._bias)
        attn_out: Tensor = (scores.softmax(-1) @ values).transpose(1, 2)
        return attn_out

    def copy_row(self, source: int, target: int) -> None:
        """Let row `target` continue with the text of row `source`."""
        self._kv[:, :, target] = self._kv[:, :, source]
