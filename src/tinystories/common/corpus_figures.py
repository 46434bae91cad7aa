"""data.json: the figures of the corpus, as one more type of the files between the stages."""

from tinystories.common import paths
from tinystories.common.artifacts import Count, Figure, JsonFile, PositiveCount, Values


class SplitFigures(Values):
    """Figures of a split. Percentiles are of story lengths in tokens. The words of a large file are estimated."""

    stories: PositiveCount
    words: Count
    bytes_per_token: Figure
    shortest: Count
    p5: Count
    p50: Count
    p95: Count
    p99: Count
    longest: Count


class CorpusFigures(JsonFile):
    """data.json: what the corpus is like: the figures that `checks` in params.yaml limits, and some more.

    `mojibake`: places in each MB with text that was decoded wrongly. The others are shares, from 0 to 1.
    """

    PATH, STAGE = paths.CORPUS_FIGURES, "tokenize_to_memmap"

    train: SplitFigures
    valid: SplitFigures
    cut_stories: Figure
    duplicates: Figure
    overlap: Figure
    mojibake: Figure
