"""A tiny checkpoint."""

from tests.support.checkpoints import checkpoint, here

__all__ = ["checkpoint", "here"]
