"""Going on with another number of ranks: the state of a stopped training, under a key that names both numbers."""

from collections.abc import Mapping
from pathlib import Path

from tinystories.common.console import info
from tinystories.common.errors import UserError
from tinystories.model.checkpoint import copy_checkpoint
from tinystories.training.conditions import Conditions, conditions_to_resume, newest_states
from tinystories.training.resume import ResumeCheckpoint, TrainerState, lock_checkpoint
from tinystories.training.run_key import training_key
from tinystories.training.step import TrainStep

_FREE = ("ranks", "threads", "micro_batch_size")  # may differ between the two


def choose_conditions(states: Path, training: str, here: Conditions) -> tuple[Conditions, str | None]:
    """Choose the conditions of the training, and the key of the training whose state it takes over, if any.

    The bits of a training that changed its number of ranks are its own: its condition `ranks` reads `4 to step 120,
    then 2`. What decides nothing else stands in the way.
    """
    found = [state for state in newest_states(states) if state.training == training and not state.ended]
    if not any(state.conditions == here for state in found):
        for state in found:
            before, now = state.conditions.get("ranks"), here.get("ranks")
            if before == now or _without(state.conditions) != _without(here):
                continue
            if str(before).endswith(f" then {now}"):
                return conditions_to_resume(states, training, {**here, "ranks": before}), None
            info(
                f"This training was started with another number of ranks ({before}) and goes on with {now} from step "
                f"{state.step:,}: not the bits that either number alone gives."
            )
            path = f"{before} to step {state.step}, then {now}"
            return {**here, "ranks": path}, training_key(training, state.conditions)
    return conditions_to_resume(states, training, here), None


def take_over(
    states: Path, key: str | None, checkpoint: ResumeCheckpoint, conditions: Conditions, step: TrainStep
) -> TrainerState | None:
    """Move the state of the training `key` to `checkpoint`, and load its tensors. None where there is no `key`."""
    if key is None:
        return None
    with lock_checkpoint(states, key) as old:
        saved = old.load(step.state_dict())
        if saved is None or saved[1].ended:
            raise UserError("the training of another number of ranks has no unfinished state any more; run again")
        tensors, state = saved
        step.load_state_dict(tensors)
        state.conditions, state.run_id = dict(conditions), None  # a run is one key's
        for number in state.kept_epochs:
            copy_checkpoint(old.epoch(number), checkpoint.epoch(number))
        checkpoint.save(step.state_dict(), state)
        old.remove()
    return state


def _without(conditions: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in conditions.items() if name not in _FREE}
