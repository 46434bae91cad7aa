"""A small GPT, trained on TinyStories by a pipeline that anyone can repeat. docs/api.md shows the functions."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinystories.api.model import Model, load
    from tinystories.api.sampling import Sampling
    from tinystories.api.scoring import Score, StoryScore
    from tinystories.api.stories import Story
    from tinystories.common.errors import UserError

__all__ = ["Model", "Sampling", "Score", "Story", "StoryScore", "UserError", "load"]

_MODULES = {
    "Model": "api.model",
    "Sampling": "api.sampling",
    "Score": "api.scoring",
    "Story": "api.stories",
    "StoryScore": "api.scoring",
    "UserError": "common.errors",
    "load": "api.model",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: PyTorch takes most of a second, and the stages need none of these names."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tinystories.{_MODULES[name]}"), name)
