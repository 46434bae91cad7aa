"""Call every C++ kernel with many shapes, odd and empty ones too: the process that test_sanitizers.py starts.

Where new memory is full of NaN, a number that is read before it was written shows in the results. Needs a compiler.
"""

import itertools

import torch
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.inference.cpu_decoder import CpuDecoder
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.gpt import GPT
from tinystories.model.ops import cross_entropy, qk_norm_rope_attention
from tinystories.model.rope import rope_cos_sin

DTYPES = (torch.float32, torch.bfloat16)
HEAD_SIZES = (16, 48)  # a power of two and none
# Around the kernels' steps: 4 queries, 2 numbers of bf16 in a pair, 4, 8 or 16 in a vector, 32 outputs in a block.
LENGTHS = (0, 1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 50, 129)
VOCABULARIES = (1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 100, 301)
COUNTS = (0, 1, 2, 3, 5, 8, 9, 17)  # of rows


def finite(*tensors: Tensor) -> None:
    assert all(tensor.isfinite().all() for tensor in tensors)


def train(dtype: torch.dtype, size: int) -> None:
    """Attention and loss, forward and backward."""
    shapes = itertools.product((0, 1, 3), LENGTHS, (0, 1, 3))
    for batch, length, heads in shapes:
        qkv = torch.randn(batch, length, 3, heads, size).to(dtype).requires_grad_()
        qk_norm_weight = torch.randn(2, size).to(dtype).requires_grad_()
        attn_out = qk_norm_rope_attention(qkv, qk_norm_weight, *rope_cos_sin(length, size))
        gradients = torch.autograd.grad(attn_out.float().square().sum(), (qkv, qk_norm_weight))
        finite(attn_out, *gradients)
        assert attn_out.numel() or not any(gradient.any() for gradient in gradients)
    for count, vocab_size in itertools.product(COUNTS, VOCABULARIES):
        x, embedding = (torch.randn(rows, 8).to(dtype).requires_grad_() for rows in (count, vocab_size))
        targets = torch.arange(count) % vocab_size
        losses = cross_entropy(x, embedding, targets)
        finite(losses, *torch.autograd.grad(losses.sum(), (x, embedding)))


@torch.inference_mode()
def write(dtype: torch.dtype, size: int) -> None:
    """The decoder: texts read at once, no text, empty ones, then token by token until the context is full."""
    shapes = itertools.product((2, 16, 19, 40), (1, 3), (7, 32, 300))
    for context, heads, vocab_size in shapes:
        config = ModelConfig(context_length=context, embedding_size=heads * size, layers=2, heads=heads)
        model = GPT(config, vocab_size, dtype)
        model.initialize(0)
        for rows in (1, 2, 9):
            decoder = CpuDecoder(model, rows)
            decoder.prefill([], [])
            decoder.prefill([0], [[]])
            finite(decoder.decode_step([], []))
            decoder.prefill(list(range(rows)), [[row % vocab_size] * (row % context) for row in range(rows)])
            for position in {0, 1, context // 2, context - 1}:
                finite(decoder.decode_step([vocab_size - 1] * rows, [min(position, context - 1)] * rows))
                decoder.copy_row(rows - 1, 0)
            decoder.prefill([rows - 1], [[0] * context])


def main() -> None:
    """Errors: whatever a sanitizer ends the process with."""
    torch.manual_seed(0)
    for dtype, size in itertools.product(DTYPES, HEAD_SIZES):
        assert compile_kernels(size, dtype)
        train(dtype, size)
        write(dtype, size)
    print("every kernel was called")


if __name__ == "__main__":
    main()
