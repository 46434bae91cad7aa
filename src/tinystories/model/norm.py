"""RMSNorm."""

import torch.nn.functional as F
from torch import Tensor

NORM_EPSILON = 1e-6  # of all normalisations of the model


def norm(x: Tensor, gain: Tensor) -> Tensor:
    """RMSNorm over the last dimension (Zhang & Sennrich 2019)."""
    return F.rms_norm(x, gain.shape, gain, NORM_EPSILON)
