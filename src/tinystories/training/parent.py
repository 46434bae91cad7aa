"""The model that a training goes on from: the copy that the stage `train_tokenizer` made of it."""

from collections.abc import Callable

from tinystories.common import paths
from tinystories.common.artifacts import Parent, ParentRecord
from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.parent_shape import refuse_other_shape
from tinystories.model.checkpoint import load_checkpoint
from tinystories.training.data import TrainingData
from tinystories.training.step import TrainStep


def read_parent(params: Params) -> Parent | None:
    """Read which model the training goes on from, if any. Its weights are not read: resuming needs none.

    Errors: UserError where it is not that of params.yaml, or has another shape.
    """
    parent, init_from = ParentRecord.read().parent, params.train.init_from
    if (parent.init_from if parent else "") != init_from:
        raise UserError(
            f"{paths.PARENT_RECORD}: not of what train.init_from is, {init_from!r}; "
            "run the stage that writes it again (dvc repro -f -s train_tokenizer)"
        )
    if parent:
        refuse_other_shape(params, paths.PARENT)
    return parent


def start_from(parent: Parent, step: TrainStep, data: TrainingData, on_step: Callable[[], None]) -> None:
    """Give the weights to the training, and say what their loss is before it.

    Errors: UserError where the copy is damaged.
    """
    step.start_from(load_checkpoint(paths.PARENT))
    valid = step.evaluate_loss(data.valid, data.meta.valid.bytes, on_step)
    info(
        f"Going on from {parent.init_from}: before training, valid loss {valid.loss:.4f} "
        f"(PPL {valid.perplexity:,.2f}), {valid.bits_per_byte:.4f} bits per byte"
    )
