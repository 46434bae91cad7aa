"""Decoding on a CPU by decoder.cpp, several times as fast as by `Decoder`.

Letters in shapes are those of gpt.py; B is the number of texts.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from tinystories.model.cpu_kernels import MAX_LANES, OUT_BLOCK, data_ptr, get_kernels
from tinystories.model.gpt import GPT

_SIZES = ("layers", "heads", "mlp_size", "vocab_size", "rows", "max_seq_len")
_TENSORS = (
    *("embedding", "qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    *("attn_norm", "qk_norm_weight", "mlp_norm", "final_norm", "cos", "sin", "keys", "values"),
)


class _Model(ctypes.Structure):
    """`Model` of decoder.cpp."""

    _fields_ = [*((name, ctypes.c_int64) for name in _SIZES), *((name, ctypes.c_void_p) for name in _TENSORS)]


class CpuDecoder:
    """Decodes up to `rows` texts side by side, each at its own position: the fast twin of `Decoder`.

    Only where `compile_kernels` was successful; `make_decoder` chooses.
    tests/inference/test_decoder.py::test_decode_step_equals_forward holds it and `Decoder` equal to `GPT.forward`
    without a cache.
    """

    def __init__(self, model: GPT, rows: int) -> None:
        config, dtype = model.config, model.compute_dtype
        kernels = get_kernels(config.head_size, dtype)
        assert kernels is not None
        self._forward_tokens = kernels.forward_tokens

        def pack(stack: Tensor) -> Tensor:
            """In the order in which decoder.cpp reads it, its outputs padded to a multiple of OUT_BLOCK."""
            outputs, inputs = stack.shape[-2:]
            weights = stack.to(dtype).reshape(-1, outputs, inputs)
            packed = weights.new_empty(len(weights), -(-outputs // OUT_BLOCK), inputs, OUT_BLOCK)
            sizes = map(ctypes.c_int64, weights.shape)
            kernels.pack_weights(data_ptr(weights), *sizes, data_ptr(packed))
            return packed

        self._vocab_size, self._rows, self._context_length = model.vocab_size, rows, config.context_length
        max_seq_len = -(-config.context_length // MAX_LANES) * MAX_LANES
        # In the kernel's order. Zeros, because a masked position has a weight of 0, and 0 times NaN is NaN.
        size = (2, config.layers, rows, config.heads, max_seq_len, config.head_size)
        self._kv_cache = torch.zeros(size, dtype=dtype)
        tensors = {
            "embedding": pack(model.embedding),
            "qkv_proj": pack(model.qkv_proj.flatten(1, 2)),
            "o_proj": pack(model.o_proj),
            "gate_up_proj": pack(model.gate_up_proj.flatten(1, 2)),
            "down_proj": pack(model.down_proj),
            "attn_norm": model.attn_norm.float(),
            "qk_norm_weight": torch.stack((model.q_norm, model.k_norm), dim=1).float(),
            "mlp_norm": model.mlp_norm.float(),
            "final_norm": model.final_norm.float(),
            "cos": model.rope_cos,
            "sin": model.rope_sin,
            "keys": self._kv_cache[0],
            "values": self._kv_cache[1],
        }
        sizes = (config.layers, config.heads, config.mlp_size, model.vocab_size, rows, max_seq_len)
        self._model = _Model(*sizes, *(data_ptr(tensors[name]) for name in _TENSORS))
        self._keepalive = tensors  # as long as their addresses are used

    def prefill(self, rows: list[int], texts: Sequence[Sequence[int]]) -> None:
        """Start these rows with these texts, of up to context_length tokens each."""
        self._forward(
            [token for text in texts for token in text],
            [row for row, text in zip(rows, texts, strict=True) for _ in text],
            [position for text in texts for position in range(len(text))],
        )

    def decode_step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Add one token, at its position from 0, to each of the first B rows; logits of what follows, (B, V), fp32."""
        logits = torch.empty(len(tokens), -(-self._vocab_size // OUT_BLOCK) * OUT_BLOCK)
        self._forward(tokens, range(len(tokens)), positions, logits)
        return logits[:, : self._vocab_size]

    def copy_row(self, source: int, target: int) -> None:
        """Let row `target` continue with the text of row `source`."""
        self._kv_cache[:, :, target] = self._kv_cache[:, :, source]

    def _forward(
        self, tokens: Sequence[int], rows: Sequence[int], positions: Sequence[int], logits: Tensor | None = None
    ) -> None:
        # The kernel would read and write beyond its memory.
        ends = {"token": self._vocab_size, "row": self._rows, "position": self._context_length}
        for (name, end), values in zip(ends.items(), (tokens, rows, positions), strict=True):
            if values and not 0 <= min(values) <= max(values) < end:
                raise IndexError(f"a {name} is not from 0 to {end - 1}")
        inputs = torch.tensor([tokens, rows, positions], dtype=torch.int64)  # ValueError where one is longer
        to = None if logits is None else data_ptr(logits)
        self._forward_tokens(ctypes.byref(self._model), ctypes.c_int64(len(tokens)), *map(data_ptr, inputs), to)
