"""Check the corpus before a model is trained on it, and write reports/data.json."""

from pathlib import Path

import numpy as np

from tinystories.common import paths
from tinystories.common.artifacts import TokenFile, TokenMeta
from tinystories.common.corpus_figures import CorpusFigures, SplitFigures
from tinystories.common.errors import UserError
from tinystories.common.params import Checks, Params
from tinystories.common.special_tokens import END_OF_TEXT_ID
from tinystories.corpus.stories import read_stories
from tinystories.encoding.statistics import (
    SAMPLE_STORIES,
    Lengths,
    Text,
    duplicates,
    overlap,
    read_story_tokens,
    read_text,
    story_blocks,
)
from tinystories.tokenization.tokenizer import load_tokenizer

ROUND_TRIP_STORIES = 100
PERCENTILES = (5, 50, 95, 99)


def check_corpus(params: Params) -> None:
    """Write the figures of the corpus. Errors: UserError where one is beyond its limit in params.yaml."""
    meta = TokenMeta.read()
    check_round_trip(paths.RAW_VALID, paths.TOKENS_VALID)
    figures = measure_corpus(meta, params.model.context_length)
    figures.write()
    if problem := limit_problem(figures, params.checks):
        raise UserError(problem)


def measure_corpus(meta: TokenMeta, context_length: int) -> CorpusFigures:
    """Compute the figures from the token files and the text files."""
    one_in = max(1, meta.train.stories // SAMPLE_STORIES)
    train, valid = (read_story_tokens(path, one_in) for path in (paths.TOKENS_TRAIN, paths.TOKENS_VALID))
    train_text, valid_text = (read_text(path) for path in (paths.RAW_TRAIN, paths.RAW_VALID))
    return CorpusFigures(
        train=_split(meta.train, train.lengths, train_text),
        valid=_split(meta.valid, valid.lengths, valid_text),
        cut_stories=float((train.lengths > context_length).mean()),
        duplicates=duplicates(train.digests),
        overlap=overlap(valid.digests, train.digests),
        mojibake=1e6 * (train_text.odd + valid_text.odd) / (train_text.bytes + valid_text.bytes),
    )


def _split(entry: TokenFile, lengths: Lengths, text: Text) -> SplitFigures:
    p5, p50, p95, p99 = (int(value) for value in np.percentile(lengths, PERCENTILES, method="inverted_cdf"))
    return SplitFigures(
        stories=entry.stories,
        words=round(text.words * max(1.0, entry.bytes / text.bytes)),
        bytes_per_token=entry.bytes / max(1, int(lengths.sum())),
        shortest=int(lengths.min()),
        p5=p5,
        p50=p50,
        p95=p95,
        p99=p99,
        longest=int(lengths.max()),
    )


def check_round_trip(text: Path, tokens: Path) -> None:
    """Check that the first stories of a token file decode to the text. Errors: UserError with the story's number."""
    tokenizer = load_tokenizer(paths.TOKENIZER)
    block = next(story_blocks(tokens))
    encoded = np.split(block, np.flatnonzero(block == END_OF_TEXT_ID)[:ROUND_TRIP_STORIES] + 1)[:ROUND_TRIP_STORIES]
    for number, (ids, story) in enumerate(zip(encoded, read_stories(text), strict=False), 1):
        if tokenizer.decode(ids[:-1].tolist(), skip_special_tokens=False) != story:
            raise UserError(f"{tokens}: story {number} does not decode to that of {text}; run tokenize_to_memmap again")


def limit_problem(figures: CorpusFigures, limits: Checks) -> str | None:
    """Describe the first figure that is beyond its limit, if one is."""
    too_high = (
        ("max_overlap", figures.overlap, "of the validation stories are training stories too"),
        ("max_duplicates", figures.duplicates, "of the training stories are copies of another one"),
        ("max_cut_stories", figures.cut_stories, "of the training stories are longer than model.context_length tokens"),
    )
    for key, share, what in too_high:
        if share > (limit := getattr(limits, key)):
            return f"checks.{key} is {limit:g}, but {share:.3g} {what}; {_REMEDY}"
    if figures.mojibake > limits.max_mojibake:
        return (
            f"checks.max_mojibake is {limits.max_mojibake:g}, but {figures.mojibake:.3g} places in each MB of text "
            f"were decoded wrongly (as â€™ for an apostrophe); {_REMEDY}"
        )
    if figures.valid.bytes_per_token < limits.min_bytes_per_token:
        return (
            f"checks.min_bytes_per_token is {limits.min_bytes_per_token:g}, but the validation stories have "
            f"{figures.valid.bytes_per_token:.3g} bytes a token; {_REMEDY}"
        )
    return None


_REMEDY = f"mend the text, or change the limit; all figures: {paths.CORPUS_FIGURES}"
