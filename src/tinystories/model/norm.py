"""RMSNorm."""

import torch.nn.functional as F
from torch import Tensor

from tinystories.model.stock_config import NORM_EPSILON


def norm(x: Tensor, weight: Tensor) -> Tensor:
    """RMSNorm over the last dimension (Zhang & Sennrich 2019)."""
    return F.rms_norm(x, weight.shape, weight, NORM_EPSILON)
