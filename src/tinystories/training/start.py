"""How a training starts: from its own last state, or from its first step.

Between the two come the state of another number of ranks (`other_ranks`) and that of a trunk (`trunk`).
"""

from collections.abc import Callable

from tinystories.common.artifacts import Parent
from tinystories.training.conditions import Conditions
from tinystories.training.data import TrainingData
from tinystories.training.parent import start_from
from tinystories.training.resume import ResumeCheckpoint, TrainerState
from tinystories.training.step import TrainStep
from tinystories.training.times import now


def resume(checkpoint: ResumeCheckpoint, step: TrainStep) -> TrainerState | None:
    """Load the last saved state, and the tensors into `step`. Returns None if there is none."""
    saved = checkpoint.load(step.state_dict())
    if saved is None:
        return None
    tensors, state = saved
    step.load_state_dict(tensors)
    return state


def begin(
    training: str,
    conditions: Conditions,
    parent: Parent | None,
    step: TrainStep,
    data: TrainingData,
    on_step: Callable[[], None],
) -> TrainerState:
    """Return the state before the first step, with initial weights in `step`: the parent's where there is a parent."""
    if parent:
        start_from(parent, step, data, on_step)
    else:
        step.initialize()
    return TrainerState(started=now(), training=training, conditions=dict(conditions))
