"""The order in which training sees the data: windows without replacement, in a seeded permutation.

A batch is a function of the seed and the step alone. There is no sampler state to save: a resumed training sees
exactly the windows that are left.
"""

import numpy as np
import numpy.typing as npt

from tinystories.tokenization.token_files import TokenArray

IntArray = npt.NDArray[np.int64]
# Its multiples, modulo 1, stay far from each other, however many there are (a low-discrepancy sequence).
GOLDEN_RATIO = (5**0.5 - 1) / 2


class WindowSampler:
    """Samples windows of `context_length` tokens from the corpus, without replacement.

    A pass divides the corpus into `count` windows and sees each of them once, in random order. A window that starts at
    token t predicts the tokens t + 1 to t + context_length from those before them. Each pass has its own order and its
    own offset, far from those of the passes before: the same windows again would be memorized (docs/log.md). A window
    that the offset would move beyond the corpus ends with the corpus, and overlaps with the one before.
    """

    def __init__(self, tokens: TokenArray, context_length: int, batch_size: int, seed: int) -> None:
        self._tokens = tokens
        self._context = context_length
        self._batch_size = batch_size
        self._seed = seed
        self.count = (len(tokens) - 1) // context_length
        self._pass = -1
        self._current_starts: IntArray = np.empty(0, np.int64)

    def starts(self, step: int) -> IntArray:
        """The first token of each window of the batch of this step (from 0). Shape: (batch_size,)."""
        position = step * self._batch_size
        parts: list[IntArray] = []
        missing = self._batch_size
        while missing:  # a batch may begin in one pass and end in the next
            pass_number, index = divmod(position, self.count)
            part = self._pass_starts(pass_number)[index : index + missing]
            parts.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(parts)

    def batches(self, step: int, count: int) -> IntArray:
        """The batches of `count` steps, from this one on. Shape: (count, batch_size, context_length + 1).

        Inputs are all columns but the last, targets all but the first.
        """
        starts = np.stack([self.starts(step + number) for number in range(count)])
        span = np.arange(self._context + 1)
        rows: IntArray = self._tokens[starts[..., None] + span].astype(np.int64)
        return rows

    def _pass_starts(self, pass_number: int) -> IntArray:
        """The first token of each window of a pass, in its order. Shape: (count,)."""
        if pass_number != self._pass:
            generator = np.random.default_rng([self._seed, pass_number])
            starts = generator.permutation(self.count) * self._context
            offset = int(pass_number * GOLDEN_RATIO % 1 * self._context)
            self._current_starts = np.minimum(starts + offset, len(self._tokens) - 1 - self._context)
            self._pass = pass_number
        return self._current_starts
