"""The weights of earlier epochs that a training keeps: those whose samples are shown, and the best so far.

They lie beside the saved states (`ResumeCheckpoint.epoch`), so a training that is resumed has them, too.
"""

from collections.abc import Iterable

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow
from tinystories.common.epochs import epochs_with_samples
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.training.resume import ResumeCheckpoint, TrainerState


def best_epoch(rows: Iterable[EpochRow]) -> int:
    """The epoch of the lowest validation loss as epochs.csv has it; of equal ones the last, which saw the most."""
    return min(rows, key=lambda row: (row.valid_loss, -row.epoch)).epoch


def shown_epochs(state: TrainerState, epochs: int) -> list[int]:
    """Those of the kept epochs whose samples are shown in a training of so many."""
    shown = epochs_with_samples(epochs)
    return [number for number in state.kept_epochs if number in shown]


def keep_weights(model: GPT, state: TrainerState, checkpoint: ResumeCheckpoint, epochs: int) -> None:
    """Keep the weights after the epoch whose row was added last, if they are shown or the best so far.

    Those of a best one before are no longer named by the state, and go once that has been saved. The last epoch of the
    training needs none here. `epochs`: of the training.
    """
    number = len(state.epochs)
    state.kept_epochs.append(number)
    best = best_epoch(state.epochs[kept - 1] for kept in state.kept_epochs)
    wanted = {*shown_epochs(state, epochs), best} - {epochs}
    state.kept_epochs = [kept for kept in state.kept_epochs if kept in wanted]
    if number in wanted:
        save_checkpoint(model, paths.TOKENIZER, checkpoint.epoch(number))
