"""The trunk of a training: its steps before the cooldown, which trainings of other lengths share.

The learning rate rises, stays and falls, and until it falls no step depends on the training's length. So the state at
the start of the cooldown is kept, in `.state/trunk/`, under a hash of all that decided the steps until there. A new
training of the same hash whose cooldown begins there or later goes on from that state, and ends with the bits that it
would have had from its first step. Nothing depends on a kept state being there: without one, all steps are trained.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from tinystories.common import paths
from tinystories.common.artifacts import Continued
from tinystories.common.console import info, plural, warn
from tinystories.common.epochs import MAX_EPOCHS_WITH_SAMPLES, epochs_with_samples
from tinystories.common.errors import UserError, shorten
from tinystories.common.params import Params, Train
from tinystories.model.checkpoint import copy_checkpoint, save_checkpoint
from tinystories.training.conditions import Conditions, describe_difference
from tinystories.training.kept_epochs import best_epoch
from tinystories.training.resume import TRAINER_STATE, ResumeCheckpoint, TrainerState, lock_checkpoint, read_state
from tinystories.training.retention import free, prune_trunks, saved_trainings
from tinystories.training.run_key import training_key
from tinystories.training.schedule import trunk_end
from tinystories.training.step import TrainStep
from tinystories.training.times import later, now

WAITING = "Another training reads or keeps the state at the start of the cooldown; waiting for it."


class Trunks:
    """The kept states of the trunks, as one training sees them. It looks for one, and keeps its own."""

    def __init__(self, params: Params, identity: str, conditions: Conditions) -> None:
        """`identity`: see `run_key.trunk_identity`."""
        self._train, self._identity, self._conditions = params.train, identity, dict(conditions)
        self._key, self._parent = training_key(identity, conditions), paths.trunk_states()
        self._limit = params.train.kept_trunk_gigabytes * 1e9
        self._count = params.train.kept_trunks if self._limit else 0
        self.end = trunk_end(params.train)

    def needs_epoch(self, number: int) -> bool:
        """Whether the weights after an epoch are kept: those that are shown, and what longer trainings will show."""
        train = self._train
        in_trunk = self._count and number <= MAX_EPOCHS_WITH_SAMPLES and number * train.steps_per_epoch <= self.end
        return number < train.epochs and bool(in_trunk or number in epochs_with_samples(train.epochs))

    def continue_in(self, checkpoint: ResumeCheckpoint, training: str, step: TrainStep) -> TrainerState | None:
        """Load the newest kept state that fits into `step`, and its epochs' weights beside the states of `checkpoint`.

        `training`: see `run_key.training_identity`. Returns the state to go on from, or None, with a line where a state
        of the same start was found and is of no use.
        """
        useless = []
        for path, state in self._kept():
            if not (path.name.startswith(self._key) and fits(state, self._train)):
                useless.append(state)
            elif loaded := self._read(path, checkpoint, step.state_dict()):
                return self._take_over(*loaded, checkpoint, training, step)
        self._explain(useless)
        return None

    def _read(
        self, path: Path, checkpoint: ResumeCheckpoint, expected: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], TrainerState] | None:
        """Read a kept state and copy its epochs' weights. Returns None, with a line, where that is not possible."""
        try:
            with lock_checkpoint(self._parent, path.name, WAITING) as kept:
                saved = kept.saved()
                if not saved:
                    info(f"{path}: this kept state was removed meanwhile")
                    return None
                loaded = kept.load_one(saved[0], expected)
                if loaded is None:
                    kept.remove()  # else it would stand in the place of an intact one
                    return None
                for number in loaded[1].kept_epochs:
                    copy_checkpoint(kept.epoch(number), checkpoint.epoch(number))
                with suppress(OSError):
                    os.utime(saved[0] / TRAINER_STATE)  # the last to be pruned
                return loaded
        except PermissionError as error:
            warn(f"{path}: this kept state is not readable and is skipped ({error.strerror})")
            return None

    def _take_over(
        self,
        tensors: dict[str, Tensor],
        state: TrainerState,
        checkpoint: ResumeCheckpoint,
        training: str,
        step: TrainStep,
    ) -> TrainerState:
        step.load_state_dict(tensors)
        kept, last = list(state.kept_epochs), len(state.epochs)
        if last not in kept and ends_epoch(state) and last < self._train.epochs:
            save_checkpoint(step.model, paths.TOKENIZER, checkpoint.epoch(last))
            kept.append(last)
        return state.model_copy(
            update={"training": training, "started": later(now(), -state.seconds), "kept_epochs": kept}
        )

    def keep(self, checkpoint: ResumeCheckpoint, tensors: Mapping[str, Tensor], state: TrainerState) -> None:
        """Keep the state at the start of the cooldown, if there is not an equal one. A failure is one warning."""
        try:
            if self._count and state.step:
                self._keep(checkpoint, dict(tensors), state)
            prune_trunks(self._parent, self._count, self._limit)
        except OSError as error:
            problem = f"{error.filename or self._parent}: {error.strerror or error}"
            warn(f"the state at the start of the cooldown is not kept, so longer trainings begin anew ({problem})")

    def _keep(self, checkpoint: ResumeCheckpoint, tensors: dict[str, Tensor], state: TrainerState) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        size += sum(path.stat().st_size for number in state.kept_epochs for path in checkpoint.epoch(number).iterdir())
        if size > self._limit:
            info(
                f"The state at the start of the cooldown is not kept: it has {size / 1e9:,.2f} GB, and "
                f"train.kept_trunk_gigabytes is {self._limit / 1e9:g}."
            )
            return
        reused = Continued(key=checkpoint.key, run_id=state.run_id, steps=state.step, seconds=round(state.seconds, 3))
        update = {"training": self._identity, "conditions": self._conditions, "run_id": None, "continued": reused}
        with lock_checkpoint(self._parent, f"{self._key}-{state.step:012}-{_layout(state)}", WAITING) as kept:
            if saved := kept.saved():
                os.utime(saved[0] / TRAINER_STATE)  # the last to be pruned
                return
            try:
                for number in state.kept_epochs:
                    copy_checkpoint(checkpoint.epoch(number), kept.epoch(number))
                kept.save(tensors, state.model_copy(update=update))
            except OSError:
                kept.remove()  # what a full disk took would stay otherwise
                raise

    def forget(self) -> None:
        """Remove the states of this trunk: a training that diverged would diverge again from them."""
        for saved in saved_trainings(self._parent):
            if saved.key.startswith(self._key):
                free(saved)

    def _kept(self) -> Iterator[tuple[Path, TrainerState]]:
        """The kept states of this trunk, also those computed under other conditions; the most steps first."""
        found = [path for path in self._parent.glob("[!.]*-*-*") if path.is_dir()]
        for path in sorted(found, key=lambda path: path.name.split("-")[1], reverse=True):
            try:
                if not os.access(path, os.R_OK | os.X_OK):
                    raise PermissionError(f"{path}: of another user")
                state = read_state(ResumeCheckpoint(path).saved()[0])
            except (UserError, OSError) as error:
                if path.name.startswith(self._key):
                    warn(f"this kept state is not readable and is skipped ({shorten(str(error), 200)})")
            except IndexError:  # being written or removed
                continue
            else:
                if state.training == self._identity:
                    yield path, state

    def _explain(self, useless: list[TrainerState]) -> None:
        """Say in one line why states of the same start are of no use, if there are any."""
        here = [state for state in useless if state.conditions == self._conditions]
        if any(state.step <= self.end for state in here):
            why = (
                "does not serve this one, whose rows, epochs or shown weights lie at other steps (train.log_every, "
                "train.steps_per_epoch, train.epochs)"
            )
        elif here:
            why = f"has {plural(here[-1].step, 'step')}, and this one's cooldown begins after {self.end:,}"
        elif useless:
            why = f"is of {describe_difference(useless[0].conditions, self._conditions)}; that gives other bits"
        else:
            return
        info(f"The kept state of a training that began as this one {why}. So all steps are trained.")


def fits(state: TrainerState, train: Train) -> bool:
    """Whether this training would have come to the same state: the same rows, epochs and weights until there."""
    step = state.step
    ends = range(train.steps_per_epoch, step + 1, train.steps_per_epoch)
    validated = [row.step for row in state.epochs]
    shown = {number for number in epochs_with_samples(train.epochs) if number <= len(validated)} - {train.epochs}
    if state.epochs:
        shown.add(best_epoch(state.epochs))  # the training would have kept the best so far, too
    available = {*state.kept_epochs, *([len(validated)] if ends_epoch(state) else [])}
    return (
        step <= trunk_end(train)
        and validated in (list(ends), [end for end in ends if end < step])  # it may still have to be validated
        and [row.step for row in state.history] == sorted({*range(train.log_every, step + 1, train.log_every), *ends})
        and shown <= available
    )


def ends_epoch(state: TrainerState) -> bool:
    """Whether the state is that after the validation of an epoch, so its weights are that epoch's."""
    return bool(state.epochs) and state.epochs[-1].step == state.step


def _layout(state: TrainerState) -> str:
    """A short hash of rows, epochs and kept weights: two states of one trunk and step differ in nothing else."""
    places = [[row.step for row in state.history], [row.step for row in state.epochs], sorted(state.kept_epochs)]
    return hashlib.sha256(str(places).encode()).hexdigest()[:8]


def describe_start(state: TrainerState, steps: int) -> None:
    """Say in one line what is reused, or from where a stopped training resumes."""
    reused = state.continued
    if reused and state.step == reused.steps:
        info(
            f"Going on from step {state.step:,} of a training with the same start (key {reused.key[:12]}): of "
            f"{plural(steps, 'step')} {steps - state.step:,} are to be trained."
        )
    elif state.step:
        info(f"Resuming from step {state.step:,}, where this training was stopped.")
