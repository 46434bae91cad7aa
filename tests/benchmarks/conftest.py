"""A tiny checkpoint."""

from tests.support.checkpoints import checkpoint

__all__ = ["checkpoint"]
