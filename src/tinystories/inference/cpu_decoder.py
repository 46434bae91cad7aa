"""The decoder on a CPU, by decoder.cpp: it does what `Decoder` does, several times as fast."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from tinystories.model.cpu_kernels import LANES, address, get_kernels
from tinystories.model.gpt import GPT

WIDTH = 32  # outputs in a block, as in decoder.cpp
_SIZES = ("layers", "heads", "feed_forward", "vocabulary", "rows", "slots")
_TENSORS = (
    *("embedding", "qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    *("attn_norm", "gains", "mlp_norm", "final_norm", "cos", "sin", "keys", "values"),
)


class _Model(ctypes.Structure):
    _fields_ = [*((name, ctypes.c_int64) for name in _SIZES), *((name, ctypes.c_void_p) for name in _TENSORS)]


class CpuDecoder:
    """Reads up to `rows` texts side by side, each at its own position; only where `compile_kernels` was successful."""

    def __init__(self, model: GPT, rows: int) -> None:
        config, dtype = model.config, model.compute_dtype
        kernels = get_kernels(config.head_size, dtype)
        assert kernels is not None
        self._read_tokens = kernels.read_tokens

        def pack(stack: Tensor) -> Tensor:
            """In the order in which decoder.cpp reads it, its outputs padded to a multiple of WIDTH."""
            outputs, inputs = stack.shape[-2:]
            weights = stack.to(dtype).reshape(-1, outputs, inputs)
            packed = weights.new_empty(len(weights), -(-outputs // WIDTH), inputs, WIDTH)
            sizes = map(ctypes.c_int64, weights.shape)
            kernels.pack(address(weights), *sizes, address(packed))
            return packed

        self._vocab_size, self._rows, self._context_length = model.vocab_size, rows, config.context_length
        slots = -(-config.context_length // LANES) * LANES
        # In the kernel's order. Zeros, for what hides a slot is a share of 0, and 0 times NaN is NaN.
        kept = torch.zeros(2, config.layers, rows, config.heads, slots, config.head_size, dtype=dtype)
        self._keys, self._values = kept
        tensors = {
            "embedding": pack(model.embedding),
            "qkv_proj": pack(model.qkv_proj.flatten(1, 2)),
            "o_proj": pack(model.o_proj),
            "gate_up_proj": pack(model.gate_up_proj.flatten(1, 2)),
            "down_proj": pack(model.down_proj),
            "attn_norm": model.attn_norm.float(),
            "gains": torch.stack((model.q_norm, model.k_norm), dim=1).float(),
            "mlp_norm": model.mlp_norm.float(),
            "final_norm": model.final_norm.float(),
            "cos": model.rope_cos,
            "sin": model.rope_sin,
            "keys": self._keys,
            "values": self._values,
        }
        sizes = (config.layers, config.heads, config.mlp_size, model.vocab_size, rows, slots)
        self._model = _Model(*sizes, *(address(tensors[name]) for name in _TENSORS))
        self._alive = tensors  # as long as their addresses are used

    def read(self, rows: list[int], texts: Sequence[Sequence[int]]) -> None:
        """Let these rows start anew with these texts, of up to context_length tokens each."""
        self._read(
            [token for text in texts for token in text],
            [row for row, text in zip(rows, texts, strict=True) for _ in text],
            [position for text in texts for position in range(len(text))],
        )

    def decode_step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Read one token, at its position from 0, in each of the first B rows; logits of what follows, (B, V), fp32."""
        logits = torch.empty(len(tokens), -(-self._vocab_size // WIDTH) * WIDTH)
        self._read(tokens, range(len(tokens)), positions, logits)
        return logits[:, : self._vocab_size]

    def move(self, source: int, target: int) -> None:
        """Let row `target` go on with the text of row `source`."""
        for kept in (self._keys, self._values):
            kept[:, target] = kept[:, source]

    def _read(
        self, tokens: Sequence[int], rows: Sequence[int], positions: Sequence[int], logits: Tensor | None = None
    ) -> None:
        # The kernel would read and write beyond its memory.
        ends = {"token": self._vocab_size, "row": self._rows, "position": self._context_length}
        for (name, end), values in zip(ends.items(), (tokens, rows, positions), strict=True):
            if values and not 0 <= min(values) <= max(values) < end:
                raise IndexError(f"a {name} is not from 0 to {end - 1}")
        numbers = torch.tensor([tokens, rows, positions], dtype=torch.int64)  # ValueError where one is longer
        to = None if logits is None else address(logits)
        self._read_tokens(ctypes.byref(self._model), ctypes.c_int64(len(tokens)), *map(address, numbers), to)
