"""What stories have from the training text: words, runs of words, the nearest training story.

The training text is streamed past the stories' hashed n-grams, piece by piece, so memory does not grow with it.
"""

from collections.abc import Iterator, Sequence
from itertools import compress

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor

from tinystories.common.special_tokens import END_OF_TEXT, END_OF_TEXT_ID
from tinystories.evaluation.text_measures import STORY_END, words_of
from tinystories.tokenization.token_files import TokenArray

PIECE_TOKENS = 2**18  # read at once
MAX_PIECES = 32  # 8.4 M tokens; of a larger training text as many pieces, evenly spaced

Ids = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

_OTHER, _BREAK = 0, -1  # a word that no story has; the end of a story. No run of words goes over them
_BASE = np.uint64(0x9E3779B97F4A7C15)  # of the polynomial hash, modulo 2**64
_REPEATS = 1 << 10  # occurrences of a bigram in one story that are told apart


class Copying:
    """Compares stories, as words, with a training text, to be given to `read` piece by piece.

    `match_lengths`: for each story, at each word, how many words from there on stand in the training text as they do
    here; 0 is a word never seen. `rouge_2`: of each story marked in `nearest`, the precision of Rouge-2 against
    the nearest training story, the share of its bigrams that this has too, each as often (Eldan & Li 2023); None of a
    story with fewer than two words.
    """

    def __init__(self, stories: Sequence[Sequence[bytes]], nearest: Sequence[bool]) -> None:
        vocabulary = dict.fromkeys(word for story in stories for word in story)
        self._numbers = {word: number for number, word in enumerate(vocabulary, start=1)} | {STORY_END: _BREAK}
        self._values = np.random.default_rng(0).integers(2**64, size=len(vocabulary) + 1, dtype=np.uint64)
        self._ends = np.cumsum([len(story) + 1 for story in stories], dtype=np.int64)
        self._ids = self._joined(stories)
        self._lengths = np.zeros(len(self._ids), np.int32)
        self._bigrams = _Bigrams(self._joined(list(compress(stories, nearest))))

    def read(self, words: Sequence[bytes]) -> None:
        """Compare with a piece of the training text: whole stories, each followed by STORY_END."""
        ids = self._number(words)
        self._match(ids)
        self._bigrams.compare(ids)

    @property
    def match_lengths(self) -> list[Ids]:
        """See above. A list of arrays of shape (words,)."""
        firsts = (0, *self._ends[:-1])
        return [self._lengths[first : end - 1] for first, end in zip(firsts, self._ends, strict=False)]

    @property
    def rouge_2(self) -> list[float | None]:
        """See above."""
        return self._bigrams.precisions()

    def _joined(self, stories: Sequence[Sequence[bytes]]) -> Ids:
        return self._number([word for story in stories for word in (*story, STORY_END)])

    def _number(self, words: Sequence[bytes]) -> Ids:
        get = self._numbers.get
        return np.array([get(word, _OTHER) for word in words], np.int32)

    def _match(self, train: Ids) -> None:
        """Lengthen runs word by word; ever fewer places of either text have one that the other has too."""
        places, hashes = self._runs(self._ids)
        train_places, train_hashes = self._runs(train)
        length = 1
        while len(places) and len(train_places):
            known = np.unique(hashes)
            index = np.searchsorted(known, train_hashes).clip(max=len(known) - 1)
            equal = known[index] == train_hashes
            found = np.zeros(len(known), bool)
            found[index[equal]] = True
            alive = found[np.searchsorted(known, hashes)]
            places, hashes = places[alive], hashes[alive]
            self._lengths[places] = np.maximum(self._lengths[places], length)
            places, hashes = self._lengthen(self._ids, places, hashes, length)
            train_places, train_hashes = self._lengthen(train, train_places[equal], train_hashes[equal], length)
            length += 1

    def _runs(self, ids: Ids) -> tuple[npt.NDArray[np.int64], Hashes]:
        """Where a run may begin, and the hash of its first word."""
        places = np.flatnonzero(ids > 0)
        return places, self._values[ids[places]]

    def _lengthen(
        self, ids: Ids, places: npt.NDArray[np.int64], hashes: Hashes, length: int
    ) -> tuple[npt.NDArray[np.int64], Hashes]:
        """Add the next word to runs of this length, and leave out those that have none: each text ends in a break."""
        following = ids[places + length]
        goes_on = following > 0
        return places[goes_on], hashes[goes_on] * _BASE + self._values[following[goes_on]]


class _Bigrams:
    """Bigrams of stories, the second occurrence in a story told apart from the first, and so on."""

    def __init__(self, ids: Ids) -> None:
        story, pairs = _pairs(ids)
        self._known = np.unique(pairs)
        codes = _with_occurrence(story, np.searchsorted(self._known, pairs))
        self._codes, column = np.unique(codes, return_inverse=True)
        stories = int((ids == _BREAK).sum())
        self._has = torch.zeros(len(self._codes), stories)
        self._has[column, story] = 1
        self._best = torch.zeros(stories)

    def compare(self, train: Ids) -> None:
        if not len(self._codes):
            return
        story, pairs = _pairs(train)
        index = np.searchsorted(self._known, pairs).clip(max=len(self._known) - 1)
        known = self._known[index] == pairs
        story, codes = story[known], _with_occurrence(story[known], index[known])
        column = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        found = self._codes[column] == codes
        if found.any():
            story, column = story[found], column[found]
            shape = (int(story[-1]) + 1, len(self._codes))
            rows = torch.sparse_coo_tensor(
                torch.tensor(np.stack([story, column])), torch.ones(len(story)), shape, check_invariants=True
            )
            # How many bigrams each training story and each of ours have in common: whole numbers, exact in fp32.
            common: Tensor = torch.sparse.mm(rows, self._has)
            self._best = torch.maximum(self._best, common.amax(dim=0))

    def precisions(self) -> list[float | None]:
        sizes = self._has.sum(dim=0).tolist()
        return [best / size if size else None for best, size in zip(self._best.tolist(), sizes, strict=True)]


def _pairs(ids: Ids) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The bigrams of known words as numbers, and the number of the story of each."""
    story = np.cumsum(ids == _BREAK)
    both = (ids[:-1] > 0) & (ids[1:] > 0)
    return story[:-1][both], (ids[:-1][both].astype(np.int64) << 32) + ids[1:][both]


def _with_occurrence(story: npt.NDArray[np.int64], bigram: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Number each bigram and its occurrence within its story, the first 0."""
    if not len(story):
        return bigram
    groups = story * (int(bigram.max()) + 1) + bigram
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    occurrence = np.empty_like(ranks)
    occurrence[order] = ranks.clip(max=_REPEATS - 1)
    return bigram * _REPEATS + occurrence


def training_pieces(tokens: TokenArray, tokenizer: Tokenizer) -> Iterator[tuple[int, list[bytes]]]:
    """Yield pieces of the training text as words, each with its number of tokens. Shape of `tokens`: (tokens,).

    The whole text, or of one of more than MAX_PIECES pieces as many, evenly spaced. A story that the end of a piece
    cuts counts as two.
    """
    pieces = -(-len(tokens) // PIECE_TOKENS)
    last = max(len(tokens) - PIECE_TOKENS, 0)
    spaced = np.linspace(0, last, MAX_PIECES).astype(np.int64).tolist()
    for first in spaced if pieces > MAX_PIECES else range(0, len(tokens), PIECE_TOKENS):
        piece = tokens[first : first + PIECE_TOKENS].tolist()
        text = tokenizer.decode(piece, skip_special_tokens=False).replace(END_OF_TEXT, f" {STORY_END.decode()} ")
        words = words_of(text)
        yield len(piece), words if piece[-1] == END_OF_TEXT_ID else [*words, STORY_END]
