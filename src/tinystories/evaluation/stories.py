"""reports/stories.json: how good the stories are that the model writes, beside as many real ones.

The definitions are published ones (the docstrings of `text_measures` and `copying` name the papers). None needs a
network or another model. A figure alone says little: few new words with a low distinct-3 mean a narrow model, not a
good one. So every figure stands beside that of validation stories.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

from tinystories.common.artifacts import Manifest
from tinystories.common.console import progress
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.common.story_figures import GroupFigures, StoryFigures
from tinystories.evaluation.copying import Copying, Ids, training_pieces
from tinystories.evaluation.text_measures import (
    distinct,
    ends_properly,
    gzip_ratio,
    kept_names,
    mean,
    pronouns_fit,
    repetition,
    share,
    words_of,
)
from tinystories.inference.generate import generate
from tinystories.model.gpt import GPT
from tinystories.tokenization.token_files import TokenArray

# Always the same, whatever `sample` says, so that the figures of runs compare: the model's own distribution.
TEMPERATURE = 1.0
MAX_TOKENS = 512  # a story is cut here, a real one too; a prompt counts
PROMPT_TOKENS = 24  # the beginning of a validation story, at most half of it
NEAREST_OF = 100  # stories of each group whose nearest training story is looked for, as many as in the paper


class Story(NamedTuple):
    """One story to judge: the text, what of it is new (no prompt), and whether it ended before it was cut."""

    text: str
    new: str
    ended: bool


def judge_stories(
    model: GPT, tokenizer: Tokenizer, train: TokenArray, valid: TokenArray, count: int, batch_size: int
) -> StoryFigures:
    """Draw `count` stories without a prompt, and one for each of `count` prompts; measure them and the real ones.

    `model`: an inference copy. The same checkpoint gives the same figures. Shapes of `train`, `valid`: (tokens,).
    """
    real = real_stories(valid, count)
    prompts: list[list[int]] = [[]] * count + [story[: min(PROMPT_TOKENS, len(story) // 2)] for story in real]
    drawn: list[list[int]] = []
    with progress("Generating stories to judge", len(prompts)) as bar:
        for first in range(0, len(prompts), batch_size):
            batch = [[END_OF_TEXT_ID, *prompt] for prompt in prompts[first : first + batch_size]]
            drawn += generate(
                model,
                batch,
                max_new_tokens=MAX_TOKENS,
                temperature=TEMPERATURE,
                top_k=model.vocab_size,
                seeds=range(first, first + len(batch)),
            )
            bar.advance(len(batch))
    stories = [_story(prompt, new, tokenizer) for prompt, new in zip(prompts, drawn, strict=True)]
    groups = {
        "unprompted": stories[:count],
        "prompted": stories[count:],
        "real": [_story([], story, tokenizer) for story in real],
    }
    return _measure(groups, train, tokenizer)


def real_stories(valid: TokenArray, count: int) -> list[list[int]]:
    """Up to `count` validation stories, evenly spaced, each with its end-of-text, as far as a drawn one may go."""
    ends = np.flatnonzero(valid == END_OF_TEXT_ID)
    chosen = np.unique(np.linspace(0, len(ends) - 2, min(count, len(ends) - 1)).round().astype(np.int64))
    return [valid[ends[n] + 1 : min(ends[n + 1], ends[n] + MAX_TOKENS) + 1].tolist() for n in chosen]


def _story(prompt: list[int], new: list[int], tokenizer: Tokenizer) -> Story:
    new = new[: MAX_TOKENS - len(prompt)]
    # Decoding leaves the end-of-text out.
    return Story(tokenizer.decode([*prompt, *new]).strip(), tokenizer.decode(new), END_OF_TEXT_ID in new)


def _measure(groups: dict[str, list[Story]], train: TokenArray, tokenizer: Tokenizer) -> StoryFigures:
    """All figures of all groups, in one pass over the training text, because that is the larger side."""
    words = {name: [words_of(story.new) for story in group] for name, group in groups.items()}
    copying = Copying(
        [story for group in words.values() for story in group],
        [number < NEAREST_OF for group in words.values() for number in range(len(group))],
    )
    tokens = 0
    with progress("Comparing them with the training text", len(train)) as bar:
        for size, piece in training_pieces(train, tokenizer):
            copying.read(piece)
            tokens += size
            bar.advance(size)
    generated = Manifest.read().source == "embedded"
    lengths, rouge_2 = iter(copying.match_lengths), iter(copying.rouge_2)
    figures = {
        name: _figures(
            groups[name],
            group,
            list(islice(lengths, len(group))),
            list(islice(rouge_2, min(len(group), NEAREST_OF))),
            generated,
        )
        for name, group in words.items()
    }
    return StoryFigures(train_tokens=tokens, **figures)


def _figures(
    stories: list[Story], words: list[list[bytes]], lengths: list[Ids], rouge_2: list[float | None], generated: bool
) -> GroupFigures:
    longest = [int(runs.max()) for runs in lengths if len(runs)]
    values = {
        "ended": share(story.ended and ends_properly(story.text) for story in stories),
        "words": mean(map(len, words)),
        "new_words": share(run == 0 for story in lengths for run in story.tolist()),
        "seq_rep_4": mean(map(repetition, words)),
        "distinct_3": distinct([word for story in words for word in story]),
        "gzip_ratio": gzip_ratio("\n".join(story.new for story in stories if story.new).encode()),
        "new_4grams": share(run < 4 for story in lengths for run in story.tolist()[:-3]),
        "longest_copy_p50": float(np.percentile(longest, 50)) if longest else None,
        "longest_copy_p95": float(np.percentile(longest, 95)) if longest else None,
        "rouge_2": mean(rouge_2),
        "names_kept": mean(kept_names(story.text, generated) for story in stories),
        "pronouns_fit": mean(pronouns_fit(story.text) for story in stories),
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
    return GroupFigures(stories=len(stories), **rounded)
