"""The order in which training sees the data: windows without replacement from a seeded permutation.

A batch is a function of the seed and the step alone. Nothing is drawn while training goes on, so a training that
stopped goes on with exactly the windows that are left.
"""

import numpy as np
import numpy.typing as npt

from tinystories.tokens import TokenArray

IntArray = npt.NDArray[np.int64]


class Windows:
    """The corpus as `count` windows of `context_length` tokens, side by side, none overlapping.

    Window w predicts the tokens w·C + 1 to w·C + C from those before them. All windows are seen once, in random order,
    before any is seen again; each such pass has an order of its own.
    """

    def __init__(self, tokens: TokenArray, context_length: int, batch_size: int, seed: int) -> None:
        self._tokens = tokens
        self._context = context_length
        self._batch_size = batch_size
        self._seed = seed
        self.count = (len(tokens) - 1) // context_length
        self._pass = -1
        self._order: IntArray = np.empty(0, np.int64)

    def indices(self, step: int) -> IntArray:
        """The windows of the batch of this step (from 0). Shape: (batch_size,)."""
        position = step * self._batch_size
        found: list[IntArray] = []
        missing = self._batch_size
        while missing:  # a batch may begin in one pass and end in the next
            pass_number, offset = divmod(position, self.count)
            part = self._order_of(pass_number)[offset : offset + missing]
            found.append(part)
            position += len(part)
            missing -= len(part)
        return np.concatenate(found)

    def batches(self, step: int, count: int) -> IntArray:
        """Inputs and targets of `count` steps from this one on: inputs are all but the last column, targets all but the
        first. Shape: (count, batch_size, context_length + 1)."""
        windows = np.stack([self.indices(step + number) for number in range(count)])
        span = np.arange(self._context + 1)
        rows: IntArray = self._tokens[windows[..., None] * self._context + span].astype(np.int64)
        return rows

    def _order_of(self, pass_number: int) -> IntArray:
        if pass_number != self._pass:
            self._order = np.random.default_rng([self._seed, pass_number]).permutation(self.count)
            self._pass = pass_number
        return self._order
