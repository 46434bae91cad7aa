"""The rows of the two tables that a training writes, rounded as they are written."""

from tinystories.common.artifacts import EpochRow, HistoryRow
from tinystories.common.params import Params
from tinystories.inference.loss_eval import EvalResult, perplexity
from tinystories.training.schedule import lr_factor


def history_row(
    params: Params, step: int, loss: float, gradient_norm: float, slice_loss: float | None, speed: float, seconds: float
) -> HistoryRow:
    """The row of history.csv after `step` steps. `speed`: tokens a second; `seconds`: of the steps alone."""
    train = params.train
    return HistoryRow(
        step=step,
        tokens=tokens(params, step),
        loss=round(loss, 6),
        valid_slice_loss=None if slice_loss is None else round(slice_loss, 6),
        learning_rate=float(f"{train.learning_rate * lr_factor(step - 1, train):.6g}"),
        gradient_norm=float(f"{gradient_norm:.6g}"),
        tokens_per_second=round(speed, 1),
        seconds=round(seconds, 3),
    )


def epoch_row(params: Params, number: int, step: int, train_loss: float, valid: EvalResult, seconds: float) -> EpochRow:
    """The row of epochs.csv of this epoch, from 1, which ended after `step` steps."""
    return EpochRow(
        epoch=number,
        train_loss=round(train_loss, 6),
        train_ppl=round(perplexity(train_loss), 4),
        valid_loss=round(valid.loss, 6),
        valid_ppl=round(valid.perplexity, 4),
        valid_bits_per_byte=round(valid.bits_per_byte, 6),
        step=step,
        tokens=tokens(params, step),
        seconds=round(seconds, 3),
    )


def tokens(params: Params, steps: int) -> int:
    """The tokens that these many steps see."""
    return steps * params.train.batch_size * params.model.context_length
