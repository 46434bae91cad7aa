"""RMSNorm."""

import torch.nn.functional as F
from torch import Tensor

NORM_EPSILON = 1e-6  # of every RMSNorm of the model


def norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm over the last dimension (Zhang & Sennrich 2019)."""
    return F.rms_norm(x, weight.shape, weight, NORM_EPSILON)
