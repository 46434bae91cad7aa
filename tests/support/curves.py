"""Tables of runs in all the shapes that are drawn: a single row, many, rising, near zero."""

import math

import numpy as np

from tests.support.report_files import epoch_rows, history_rows
from tinystories.common.artifacts import EpochRow, HistoryRow


def tables(
    rows: int, epochs: int, start: float = 9.2, end: float = 1.5, noise: float = 0.05
) -> tuple[list[HistoryRow], list[EpochRow]]:
    """A history and its epochs; the loss goes from `start` to `end`."""
    place = np.arange(1, rows + 1) / rows
    loss = end + (start - end) * (1 + 50 * place) ** -1.0 + np.random.default_rng(0).normal(0, noise, rows)
    (row,), (epoch,) = history_rows(1), epoch_rows(1)
    history = [
        row.model_copy(
            update={
                "tokens": 81_920 * n, "loss": value, "learning_rate": 0.02 * (1 - n / rows),
                "valid_slice_loss": value + 0.15 if rows >= 20 and math.isqrt(n) ** 2 == n else None,
            }
        )
        for n, value in enumerate(loss.tolist(), start=1)
    ]  # fmt: skip
    ends = np.linspace(0, rows - 1, epochs + 1).astype(int)[1:].tolist()
    return history, [at_end(epoch, number, history[index]) for number, index in enumerate(ends, start=1)]


def at_end(epoch: EpochRow, number: int, row: HistoryRow) -> EpochRow:
    loss = row.loss + 0.1
    scores = {"valid_loss": loss, "valid_ppl": math.exp(loss), "valid_bits_per_byte": loss / 2.8}
    return epoch.model_copy(update={"epoch": number, "tokens": row.tokens, **scores})


SHAPES = {
    "one epoch of 10 rows": tables(10, 1),
    "a single row": tables(1, 1),
    "two epochs": tables(1000, 2),
    "40 epochs": tables(400, 40),
    "400 epochs": tables(400, 400),
    "20,000 rows": tables(20_000, 2),
    "noisy": tables(1000, 2, noise=0.8, end=3.0),
    "rising": tables(500, 5, start=2.0, end=7.0),
    "flat": tables(20, 2, start=2.0, end=2.0, noise=0.0),
    "a first loss of 157": tables(500, 2, start=157.0),
    "near zero": tables(500, 2, end=0.001, noise=0.0),
    "a loss of 0": tables(60, 2, start=0.0, end=0.0, noise=0.0),
}
