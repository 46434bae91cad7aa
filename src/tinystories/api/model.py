"""`load`, and the model that it gives: it writes stories and scores texts."""

import os
from collections.abc import Iterable, Iterator, Sequence

from tokenizers import Tokenizer

from tinystories.api.sampling import DEFAULT_LENGTH, Sampling, seeds_from
from tinystories.api.scoring import Score, StoryScore, score_stories, total
from tinystories.api.source import read_model
from tinystories.api.stories import Story, draw_stories
from tinystories.common.errors import UserError
from tinystories.corpus.stories import stories_of
from tinystories.model.device import limit_threads
from tinystories.model.gpt import GPT


def load(source: str | os.PathLike[str] = "models/checkpoint") -> "Model":
    """Load a model from a checkpoint directory, or from MLflow's registry: models:/NAME@ALIAS, models:/NAME/VERSION.

    Errors: UserError, in one line, where there is no such model or its files are damaged.
    """
    limit_threads()
    gpt, tokenizer, generation = read_model(os.fspath(source))
    try:
        sampling = Sampling().changed(generation)
    except UserError as error:
        raise UserError(f"{source}/generation_config.json: {error}") from None
    return Model(gpt.inference_copy(), tokenizer, sampling)


class Model:
    """A trained model on the CPU in fp32. `load` makes it.

    `sampling` is what the checkpoint's generation_config.json says, and is used where a call says nothing else.
    """

    def __init__(self, gpt: GPT, tokenizer: Tokenizer, sampling: Sampling) -> None:
        self._gpt, self._tokenizer = gpt, tokenizer
        self.sampling = sampling

    def generate(
        self,
        prompt: str = "",
        *,
        length: int = DEFAULT_LENGTH,
        seed: int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float | None = None,
    ) -> str:
        """Return what follows the prompt, up to the story's end or `length` tokens. Without a prompt, a whole story.

        The same seed gives the same text; None draws one. Errors: UserError for a value out of its bounds.
        """
        options = {"top_k": top_k, "top_p": top_p, "temperature": temperature}
        return "".join(self.stream(prompt, length=length, seed=seed, **options))  # type: ignore[arg-type]

    def stream(
        self,
        prompt: str = "",
        *,
        length: int = DEFAULT_LENGTH,
        seed: int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float | None = None,
    ) -> Iterator[str]:
        """Yield what `generate` returns piece by piece, as it is drawn."""
        given = {"top_k": top_k, "top_p": top_p, "temperature": temperature}
        shown = 0
        for (story,) in self.draw(prompt, seeds_from(seed, 1), length=length, sampling=self.sampling.changed(given)):
            if len(story.text) > shown:
                yield story.text[shown:]
                shown = len(story.text)

    def draw(
        self, prompt: str, seeds: Sequence[int], *, length: int = DEFAULT_LENGTH, sampling: Sampling | None = None
    ) -> Iterator[list[Story]]:
        """Draw a story for each seed, side by side, and yield them all after each step, as far as they are.

        Each is the story that its seed gives alone.
        """
        return draw_stories(self._gpt, self._tokenizer, prompt, seeds, length, sampling or self.sampling)

    def score(self, text: str) -> Score:
        """Compute how well the model predicts a text. `<|endoftext|>` separates stories; without one it is a story.

        Errors: UserError for a text without a story.
        """
        stories = list(self.score_each(stories_of(text)))
        if not stories:
            raise UserError("the text is empty; there is nothing to score")
        figures = total(stories)
        return Score(figures.nats, figures.tokens, figures.bytes, stories)

    def score_each(self, stories: Iterable[str]) -> Iterator[StoryScore]:
        """Score each story, in order, in memory bounded by the longest."""
        return score_stories(self._gpt, self._tokenizer, stories)
