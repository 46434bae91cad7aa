"""The order in which training sees the data: windows without replacement from a seeded permutation.

A batch is a function of the seed and the step alone. Nothing is drawn while training goes on, so a training that
stopped goes on with exactly the windows that are left.
"""

import numpy as np
import numpy.typing as npt

from tinystories.tokenization.token_files import TokenArray

IntArray = npt.NDArray[np.int64]
# Multiples of it, modulo 1, stay far from one another, however many there are.
GOLDEN_RATIO = (5**0.5 - 1) / 2


class WindowSampler:
    """The corpus as `count` windows of `context_length` tokens, side by side.

    A window that starts at token t predicts the tokens t + 1 to t + C from those before them. All windows are seen
    once, in random order, before any is seen again. Each such pass has an order of its own and cuts at other places,
    far from those of the passes before: the same windows again would be remembered instead of learned from
    (docs/log.md). Where the last window would then go beyond the corpus, it ends with it, and overlaps with the one
    before.
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
        found: list[IntArray] = []
        missing = self._batch_size
        while missing:  # a batch may begin in one pass and end in the next
            pass_number, offset = divmod(position, self.count)
            part = self._pass_starts(pass_number)[offset : offset + missing]
            found.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(found)

    def batches(self, step: int, count: int) -> IntArray:
        """Inputs and targets of `count` steps from this one on: inputs are all but the last column, targets all but the
        first. Shape: (count, batch_size, context_length + 1)."""
        starts = np.stack([self.starts(step + number) for number in range(count)])
        span = np.arange(self._context + 1)
        rows: IntArray = self._tokens[starts[..., None] + span].astype(np.int64)
        return rows

    def _pass_starts(self, pass_number: int) -> IntArray:
        if pass_number != self._pass:
            generator = np.random.default_rng([self._seed, pass_number])
            starts = generator.permutation(self.count) * self._context
            shift = int(pass_number * GOLDEN_RATIO % 1 * self._context)
            self._current_starts = np.minimum(starts + shift, len(self._tokens) - 1 - self._context)
            self._pass = pass_number
        return self._current_starts
