"""The `train` stage: the training loop with logging, validation, saving and resuming."""

import math
import time
from collections.abc import Mapping

import torch

from tinystories.common import paths
from tinystories.common.artifacts import MAX_VALUE
from tinystories.common.console import ProgressBar, info, plural, progress
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.signals import GracefulShutdown, Stopped
from tinystories.inference.samples import render_samples
from tinystories.model.cpu_kernels import compile_kernels
from tinystories.model.device import limit_threads, translate_device_errors
from tinystories.tracking.async_logger import AsyncRunLogger
from tinystories.tracking.metrics import (
    continued_tags,
    environment_tags,
    epoch_metrics,
    flat_params,
    history_metrics,
    parent_tags,
)
from tinystories.tracking.mlflow_run import Status
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.training.backend import choose_backend, describe_environment, set_determinism, tune_malloc
from tinystories.training.conditions import find_conditions, use_threads
from tinystories.training.data import TrainingData, open_data, warn_of_many_passes
from tinystories.training.distributed import choose_ranks
from tinystories.training.kept_epochs import keep_weights
from tinystories.training.launch import connected, dismiss, follow
from tinystories.training.other_ranks import choose_conditions, take_over
from tinystories.training.parent import read_parent
from tinystories.training.results import write_results, write_tables
from tinystories.training.resume import ResumeCheckpoint, TrainerState, lock_checkpoint
from tinystories.training.retention import prune
from tinystories.training.rows import epoch_row, history_row, tokens
from tinystories.training.run_key import training_identity, training_key, trunk_identity
from tinystories.training.schedule import warn_of_long_warmup
from tinystories.training.start import begin, resume
from tinystories.training.step import TrainStep, fit_micro_batch, micro_batch_size
from tinystories.training.times import later, now
from tinystories.training.trunk import Trunks, describe_start
from tinystories.training.validation_slice import is_due, slice_windows


@translate_device_errors("train.batch_size, model.context_length, model.embedding_size or model.layers")
def train(params: Params, experiment: str | None) -> None:
    """Train or resume training, and write the results: see `results`.

    `experiment` names the MLflow run, if given.
    Errors: UserError for token files that do not match, a device that is missing or fails, a loss that is not finite.
    """
    data, parent = open_data(params.model.context_length), read_parent(params)
    limit_threads()
    if params.train.deterministic:
        set_determinism()
    backend = choose_backend(params, data.meta.vocab_size)
    tune_malloc()
    ranks = choose_ranks(params.train, backend.device)
    params = fit_micro_batch(params, data.meta.vocab_size, data.train, backend, ranks)
    if ranks.rank:
        follow(params, data, backend, ranks)
        return
    ranks.share_threads()
    here = ranks.conditions(params.train, micro_batch_size(params.train, ranks.count))
    states, identity = paths.training_states(), training_identity(params, data.meta, parent)
    here = {**find_conditions(backend, params.model.head_size), **here}
    conditions, other = choose_conditions(states, identity, here)
    use_threads(conditions)
    trunks = Trunks(params, trunk_identity(params, data.meta, parent), conditions)
    with lock_checkpoint(states, training_key(identity, conditions)) as checkpoint, GracefulShutdown() as stop:
        step = TrainStep(params, data.meta.vocab_size, data.train, backend, ranks)
        state = (
            resume(checkpoint, step)
            or take_over(states, other, checkpoint, conditions, step)
            or trunks.continue_in(checkpoint, identity, step)
            or begin(identity, conditions, parent, step, data, stop.check)
        )
        if state.ended is None:
            state.environment = {**describe_environment(backend), **conditions}
            tags = {**parent_tags(parent), **continued_tags(state.continued)}
            with connected(params, backend, ranks, step, state.step, stop):
                Trainer(params, data, step, checkpoint, trunks, state, stop).run(experiment, tags)
        else:
            dismiss(params, backend, ranks, step, stop)
            # DVC could not record the results: they are written again, byte for byte
            info(
                f"This training ended at {state.ended}, and its last state is kept: its results are written again from "
                "that. To train it again: make clean-state, then the same command."
            )
        write_results(state, step.model, checkpoint, experiment, parent)


class Trainer:
    """The loop of one training, from its first step or the one it resumes from, to its last."""

    def __init__(
        self,
        params: Params,
        data: TrainingData,
        step: TrainStep,
        checkpoint: ResumeCheckpoint,
        trunks: Trunks,
        state: TrainerState,
        stop: GracefulShutdown,
    ) -> None:
        self._params = params
        self._data = data
        self._step = step
        self._checkpoint = checkpoint
        self._trunks = trunks
        self._state = state
        self._stop = stop
        windows = slice_windows(data.valid, params.model.context_length, params.train.batch_size)
        self._validation_slice = torch.from_numpy(windows)
        self._clock = time.monotonic() - state.seconds
        self._saved_at = time.monotonic()

    def run(self, experiment: str | None, tags: Mapping[str, str]) -> None:
        """Train to the end and save the last state. Raises Stopped, with the state saved, after a signal."""
        state = self._state
        self._logger = self._open_logger(experiment, tags)
        status: Status = "FAILED"
        try:
            self._log_config()
            self._log_reused()
            self._train()
            state.seconds = time.monotonic() - self._clock
            state.run_id = self._logger.close("FINISHED")
            status = "FINISHED"
        except Stopped as stopped:
            status = "KILLED"
            if not stopped.immediate:  # in the middle of a step the tensors are not consistent
                self._save()
                info(f"Stopped at step {state.step:,}; the next `dvc repro` resumes from there.")
            raise
        finally:
            if status != "FINISHED":
                self._logger.close(status)
        # If the clock was set back meanwhile, the training must not end before it started.
        state.ended = max(now(), later(state.started, state.seconds))
        # Kept after the end: should DVC fail to record the results, no step is trained twice.
        self._checkpoint.save(self._step.state_dict(), state)
        prune(paths.training_states(), self._checkpoint.key)

    def _open_logger(self, experiment: str | None, tags: Mapping[str, str]) -> AsyncRunLogger:
        params, root = self._params, paths.repository_root()
        return AsyncRunLogger(
            uri=tracking_uri(params.mlflow.tracking_uri, root),
            experiment=params.mlflow.experiment,
            root=root,
            key=self._checkpoint.key,
            run_id=self._state.run_id,
            name=experiment,
            params=flat_params(params),
            tags={**environment_tags(self._state.environment), **tags},
        )

    def _log_config(self) -> None:
        state, environment = self._state, self._state.environment
        info(
            f"{self._step.model.parameter_count():,} parameters, {plural(self._params.train.steps, 'step')} of "
            f"{plural(tokens(self._params, 1), 'token')} on {environment['device_name']}, {environment['precision']}"
            f"{', compiled' if environment['compiled'] else ''}"
        )
        if self._step.slow_shape:
            info(self._step.slow_shape)
        describe_start(state, self._params.train.steps)
        if state.step == (state.continued.steps if state.continued else 0):
            warn_of_many_passes(self._params, self._data)
            warn_of_long_warmup(self._params.train)
        if environment["compiled"] and state.step < self._params.train.steps:
            info("Compiling the training step: about a minute the first time, then some seconds.")

    def _log_reused(self) -> None:
        """Give a new run the rows of the steps that were not trained for it. The logger sends all in one call."""
        if self._state.continued and self._state.step == self._state.continued.steps:
            for row in self._state.history:
                self._logger.log_metrics(row.step, history_metrics(row))
            for epoch in self._state.epochs:
                self._logger.log_metrics(epoch.step, epoch_metrics(epoch))

    def _train(self) -> None:
        state, train = self._state, self._params.train
        first_step = state.step
        with progress("Training", train.steps, state.step) as bar:
            while True:
                if state.step == train.steps_per_epoch * (len(state.epochs) + 1):
                    self._end_epoch()
                if state.step == self._trunks.end:
                    self._update_state()
                    self._trunks.keep(self._checkpoint, self._step.state_dict(), state)
                if state.step == train.steps:
                    return
                start = time.monotonic()
                self._step.step(state.step)
                state.step += 1
                logged = state.step % train.log_every == 0 or state.step % train.steps_per_epoch == 0
                loss_sum = self._step.loss_sum.item() if logged else 0.0  # waits for the device
                self._stop.defer()
                seconds = time.monotonic() - start
                state.train_seconds += seconds
                if state.step == first_step + 1:
                    state.startup_seconds += seconds
                bar.advance(1)
                if logged:
                    self._log(loss_sum, bar)
                if time.monotonic() - self._saved_at > train.save_every:
                    self._save()
                self._stop.check()

    def _log(self, loss_sum: float, bar: ProgressBar) -> None:
        """Add a row to the history: the mean loss since the row before."""
        state, params = self._state, self._params
        steps = state.step - state.last_logged_step
        loss, gradient_norm = loss_sum / steps, self._step.gradient_norm.item()
        self._check_finite("training loss", loss)
        self._check_finite("gradient's norm", gradient_norm)
        slice_loss = None
        if is_due(state.step, state.last_logged_step):  # no signal comes between, so the row has it or is not
            slice_loss = self._step.slice_loss(self._validation_slice)
            self._check_finite("validation loss", slice_loss)
        speed = tokens(params, steps) / max(state.train_seconds - state.last_logged_seconds, 1e-9)
        row = history_row(params, state.step, loss, gradient_norm, slice_loss, speed, state.train_seconds)
        state.history.append(row)
        state.last_logged_step, state.last_logged_seconds = state.step, state.train_seconds
        state.epoch_loss_sum += loss_sum
        self._step.loss_sum.zero_()
        self._logger.log_metrics(state.step, history_metrics(row))
        bar.advance(0, f"step {state.step:,}, loss {loss:.3f}, {speed:,.0f} tokens/s")

    def _check_finite(self, name: str, value: float) -> None:
        """Raise UserError if the training has diverged."""
        train = self._params.train
        if not math.isfinite(value) or value > MAX_VALUE:
            self._checkpoint.remove()  # resuming from it would lead here again
            self._trunks.forget()
            raise UserError(
                f"the {name} is {value:g} at step {self._state.step:,}; train.learning_rate ({train.learning_rate:g}) "
                f"or train.embedding_learning_rate ({train.embedding_learning_rate:g}) should be lower, "
                "or train.warmup_steps larger"
            )

    def _end_epoch(self) -> None:
        """Evaluate on the whole validation set, add a row to the loss/PPL table, keep the weights, show samples."""
        state, number = self._state, len(self._state.epochs) + 1
        self._save()  # validation can take long; a stop during it should not cost steps
        data = self._data
        valid = self._step.evaluate_loss(data.valid, data.meta.valid.bytes, self._stop.check)
        self._check_finite("validation loss", valid.loss)
        train_loss, seconds = state.epoch_loss_sum / self._params.train.steps_per_epoch, time.monotonic() - self._clock
        row = epoch_row(self._params, number, state.step, train_loss, valid, seconds)
        state.epochs.append(row)
        keep_weights(self._step.model, state, self._checkpoint, self._params.train.epochs, self._trunks.needs_epoch)
        state.epoch_loss_sum = 0.0
        write_tables(state)
        self._logger.log_metrics(state.step, epoch_metrics(row))
        self._logger.log_text("epochs.csv", paths.EPOCHS.read_text(encoding="utf-8"))
        info(
            f"Epoch {number}: train loss {row.train_loss:.4f} (PPL {row.train_ppl:,.2f}), "
            f"valid loss {row.valid_loss:.4f} (PPL {row.valid_ppl:,.2f}), {row.valid_bits_per_byte:.4f} bits per byte"
        )
        self._save()
        self._show_samples(number)

    def _show_samples(self, epoch: int) -> None:
        """Show samples in MLflow while the model trains.

        They are no output, so that they may change without a training: `evaluate` generates those in the report, in
        fp32 as well.
        """
        params = self._params
        if self._state.environment.get("kernels"):  # where it trains without, they would change its bits
            compile_kernels(params.model.head_size, torch.float32)
        page = render_samples(
            self._step.model.inference_copy(torch.float32),
            self._data.tokenizer,
            params.sample,
            params.seed,
            f"Samples after epoch {epoch}",
            self._stop.check,
        )
        self._logger.log_text(f"samples/epoch_{epoch}.md", page)

    def _update_state(self) -> None:
        self._state.seconds = time.monotonic() - self._clock
        self._state.run_id = self._logger.run_id or self._state.run_id

    def _save(self) -> None:
        self._update_state()
        self._checkpoint.save(self._step.state_dict(), self._state)
        self._saved_at = time.monotonic()
