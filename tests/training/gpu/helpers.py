"""What several of these test files need."""

import torch
from torch import Tensor

from tinystories.common.params import ModelConfig
from tinystories.model.gpt import GPT


def random(*size: int, seed: int = 0) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def random_weights(config: ModelConfig) -> GPT:
    """Return a model, of 97 tokens, in which no weight is 0 or 1."""
    model = GPT(config, 97)
    model.initialize(1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def assert_near(found: Tensor, expected: Tensor, allowed: float = 1e-5) -> None:
    assert (found - expected).norm() <= allowed * expected.norm(), ((found - expected).norm(), expected.norm())
