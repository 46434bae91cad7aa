"""The GPU's kernels against plain operations, in Triton's interpreter: the same sources, computed by NumPy in fp32.

Needs Triton and no GPU. Results in bf16 and speed on a GPU: `python -m benchmarks.gpu`.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tinystories.model.attention import causal_attention
from tinystories.model.norm import norm
from tinystories.model.rope import apply_rope, rope_cos_sin
from tinystories.model.stock_config import NORM_EPSILON

pytest.importorskip("triton")

from tests.training.gpu.helpers import assert_near, random
from tinystories.training.gpu import attention, pointwise

few_examples = settings(max_examples=15)


def unwritten(*size: int) -> Tensor:
    return torch.full(size, float("nan"))


@pytest.mark.parametrize("head_size", [16, 32, 64])
@pytest.mark.parametrize("seq_len", [1, 5, 16, 63, 64, 65, 100, 128])
def test_attention_and_its_gradient(seq_len, head_size):
    batch, heads = 2, 2
    qkv, weight = random(batch, seq_len, 3, heads, head_size), 1 + 0.3 * random(2, head_size)
    grad_out = random(batch, seq_len, heads, head_size, seed=1)
    cos, sin = rope_cos_sin(seq_len, head_size)

    qkv.requires_grad_()
    weight.requires_grad_()
    q, k, v = qkv.unbind(2)
    q, k = (apply_rope(norm(x, w), cos[:, None], sin[:, None]) for x, w in zip((q, k), weight, strict=True))
    expected = causal_attention(q, k, v)
    grad_qkv, grad_weight = torch.autograd.grad(expected, (qkv, weight), grad_out)

    inputs = qkv.detach(), weight.detach(), cos, sin
    attn_out, lse = unwritten(batch, seq_len, heads, head_size), unwritten(batch, heads, seq_len)
    attention.forward(*inputs, attn_out, lse)
    assert_near(attn_out, expected.detach())
    found, parts = unwritten(*qkv.shape), unwritten(batch, heads, 2, head_size)
    attention.backward(*inputs, attn_out, lse, grad_out, found, parts)
    assert_near(found, grad_qkv)
    torch.testing.assert_close(
        parts.sum((0, 1)), grad_weight, rtol=1e-4, atol=1e-4
    )  # 0 where a token sees itself alone


@few_examples
@given(count=st.integers(1, 40), width=st.integers(1, 70), with_branch=st.booleans())
def test_norm_and_its_gradient(count, width, with_branch):
    x, branch_out, weight = random(count, width), random(count, width, seed=1), 1 + 0.3 * random(width)
    grad_normed, grad_skip = random(count, width, seed=2), random(count, width, seed=3)
    residual = x + branch_out if with_branch else x
    written, normed = unwritten(count, width), unwritten(count, width)
    pointwise.norm_forward(x, branch_out if with_branch else None, weight, written, normed)
    if with_branch:
        assert torch.equal(written, residual)
    expected = F.rms_norm(residual, (width,), weight, NORM_EPSILON)
    assert_near(normed, expected)

    residual.requires_grad_()
    weight.requires_grad_()
    expected = F.rms_norm(residual, (width,), weight, NORM_EPSILON)
    grad_x, grad_weight = torch.autograd.grad(expected, (residual, weight), grad_normed)
    found, partials, total = unwritten(count, width), unwritten(1, pointwise.NUM_PARTIALS, width), unwritten(1, width)
    pointwise.norm_backward(
        residual.detach(), weight.detach(), grad_normed, grad_skip if with_branch else None, found, partials[0]
    )
    torch.testing.assert_close(found, grad_x + grad_skip if with_branch else grad_x, rtol=1e-3, atol=1e-4)
    pointwise.sum_partials(partials, total)
    torch.testing.assert_close(total[0], grad_weight, rtol=1e-3, atol=1e-4)


@few_examples
@given(count=st.integers(1, 30), width=st.integers(1, 90))
def test_swiglu_and_its_gradient(count, width):
    gate_up, grad_hidden = random(count, 2 * width).requires_grad_(), random(count, width, seed=1)
    gate, up = gate_up.chunk(2, dim=-1)
    expected = F.silu(gate) * up
    (grad_gate_up,) = torch.autograd.grad(expected, gate_up, grad_hidden)
    hidden, found = unwritten(count, width), unwritten(count, 2 * width)
    pointwise.swiglu_forward(gate_up.detach(), hidden)
    assert_near(hidden, expected.detach())
    pointwise.swiglu_backward(gate_up.detach(), grad_hidden, found)
    assert_near(found, grad_gate_up)


@pytest.mark.parametrize("vocab_size", [2, 300, 2048, 5000])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_cross_entropy_and_its_gradient(vocab_size, scale):
    logits = (scale * random(7, vocab_size)).requires_grad_()
    targets = torch.randint(vocab_size, (7,), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(logits, targets, reduction="none")
    (grad_logits,) = torch.autograd.grad(expected.mean(), logits)
    found, losses = logits.detach().clone(), unwritten(7)
    pointwise.cross_entropy(found, targets, losses)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(found, grad_logits)


@few_examples
@given(tokens=st.lists(st.integers(0, 11), min_size=1, max_size=60))
def test_embedding_backward_adds_rows_of_each_token(tokens):
    ids = torch.tensor(tokens)
    grad_table, grad_rows = random(12, 20), random(len(tokens), 20, seed=1)
    expected = grad_table.index_add(0, ids, grad_rows)
    sorted_ids, sort_idx = ids.int().sort(stable=True)
    segment_offsets = torch.searchsorted(sorted_ids, torch.arange(13, dtype=torch.int32), out_int32=True)
    pointwise.embedding_backward(grad_table, grad_rows, sort_idx, segment_offsets)
    torch.testing.assert_close(grad_table, expected)
