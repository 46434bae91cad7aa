"""Decoding on any device: texts side by side, one token at a time, with the keys and values of those before cached.

Letters in shapes are those of gpt.py; B is the number of texts.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.model.gpt import GPT
from tinystories.model.ops import implementation


class Decoder:
    """Decodes up to `rows` texts side by side, each at its own position, by `GPT.forward` with a cache.

    `model` should be an inference copy: the weights of others are cast in every step.
    tests/inference/test_decoder.py::test_decode_step_equals_forward holds it and its fast twin, `CpuDecoder`, equal to
    `GPT.forward` without a cache.
    """

    def __init__(self, model: GPT, rows: int) -> None:
        self._model, self._device = model, model.embedding.device
        self._cache = model.kv_cache(rows)

    def prefill(self, rows: list[int], texts: Sequence[Sequence[int]]) -> None:
        """Start these rows with these texts, of up to context_length tokens each."""
        longest = max(map(len, texts), default=0)
        if longest:
            # The padding of a shorter text lies beyond it, where its own tokens overwrite it before any attends to it.
            tokens = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
            self._cache.begin(rows, torch.arange(longest).expand(len(texts), longest), longest)
            self._model.hidden_states(tokens.to(self._device), self._cache)

    def decode_step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Add one token, at its position from 0, to each of the first B rows; logits of what follows, (B, V)."""
        self._cache.begin(slice(len(tokens)), torch.tensor(positions)[:, None], max(positions) + 1)
        logits: Tensor = self._model(torch.tensor(tokens)[:, None].to(self._device), self._cache)
        return logits[:, -1]

    def copy_row(self, source: int, target: int) -> None:
        """Let row `target` continue with the text of row `source`."""
        self._cache.copy_row(source, target)


def make_decoder(model: GPT, rows: int) -> Decoder | CpuDecoder:
    """The fast decoder where it can be had, else the plain one."""
    chosen = implementation(model.embedding.device, model.compute_dtype, model.config.head_size)
    return CpuDecoder(model, rows) if chosen == "cpp" else Decoder(model, rows)
