"""A small GPT, trained on TinyStories by a pipeline that anyone can repeat."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinystories.api.model import Model, load
    from tinystories.api.scoring import Score, StoryScore
    from tinystories.api.stories import Story

__all__ = ["Model", "Score", "Story", "StoryScore", "load"]

_MODULES = {"Model": "model", "Score": "scoring", "Story": "stories", "StoryScore": "scoring", "load": "model"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: PyTorch takes most of a second, and the stages need none of these names."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"tinystories.api.{_MODULES[name]}"), name)
