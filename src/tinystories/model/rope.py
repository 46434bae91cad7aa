"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

Letters in shapes: B batch, T tokens, H heads, K head size.
"""

import torch
from torch import Tensor

from tinystories.model.stock_config import ROPE_THETA


def rope_frequencies(head_size: int) -> Tensor:
    """Radians by which each pair of a head turns from one token to the next. Shape: (K / 2,)."""
    frequencies: Tensor = ROPE_THETA ** (-torch.arange(0, head_size, 2, dtype=torch.float32) / head_size)
    return frequencies


def rope_cos_sin(length: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosine and sine of the rotation of each position and pair of a head. Shapes: (T, K), each angle twice."""
    angles = torch.outer(torch.arange(length, dtype=torch.float32), rope_frequencies(head_size)).repeat(1, 2)
    return angles.cos(), angles.sin()


def apply_rope(x_BTHK: Tensor, cos_T1K: Tensor, sin_T1K: Tensor) -> Tensor:
    """Rotate each pair of components (i, i + K/2) by its position's angle."""
    left, right = x_BTHK.chunk(2, dim=-1)
    return x_BTHK * cos_T1K + torch.cat((-right, left), dim=-1) * sin_T1K
