"""The `train` stage: the loop over steps and epochs, what it writes, and how it goes on after a stop."""

import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pandas as pd
from tokenizers import Tokenizer

from tinystories.common import paths
from tinystories.common.artifacts import TokenMeta
from tinystories.common.console import ProgressBar, info, progress
from tinystories.common.errors import UserError
from tinystories.common.files import write_json, write_text
from tinystories.common.params import Params
from tinystories.common.signals import GracefulShutdown, Stopped
from tinystories.inference.loss_eval import perplexity
from tinystories.inference.samples import render_samples
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.device import translate_device_errors
from tinystories.tokenization.token_files import (
    TokenArray,
    check_counts,
    matching_tokenizer,
    open_tokens,
)
from tinystories.tracking.async_logger import AsyncRunLogger
from tinystories.tracking.metrics import environment_tags, epoch_metrics, flat_params, history_metrics
from tinystories.tracking.mlflow_run import Status
from tinystories.tracking.mlflow_store import tracking_uri
from tinystories.training.backend import (
    Backend,
    choose_backend,
    describe_environment,
    set_determinism,
    tune_malloc,
)
from tinystories.training.conditions import Conditions, conditions_to_resume, find_conditions, use_threads
from tinystories.training.optimizer import schedule
from tinystories.training.resume import Progress, ResumeCheckpoint, lock_checkpoint
from tinystories.training.retention import prune
from tinystories.training.run_key import training_identity, training_key
from tinystories.training.step import TrainStep


@translate_device_errors("train.batch_size, model.context_length, model.embedding_size or model.layers")
def train(params: Params, experiment: str | None) -> None:
    """Train, or go on training, and write checkpoint, history, table, samples, metrics and the run's id.

    `experiment` is the name that the record gives the run, where it has one.
    Errors: UserError for token files that do not fit, a device that is not there or fails, a loss that is no number.
    """
    corpus = _open_corpus(params.model.context_length)
    if params.train.deterministic:
        set_determinism()
    backend = choose_backend(params, corpus.meta.vocab_size)
    tune_malloc()
    states, identity = paths.training_states(), training_identity(params, corpus.meta)
    conditions = conditions_to_resume(states, identity, find_conditions(backend, params.model.head_size))
    use_threads(conditions)
    with lock_checkpoint(states, training_key(identity, conditions)) as state, GracefulShutdown() as stop:
        Training(params, experiment, corpus, backend, identity, conditions, state, stop).run()


@dataclass(frozen=True)
class _Corpus:
    """What the stages before have made of the stories. Shapes of `train` and `valid`: (tokens,)."""

    meta: TokenMeta
    tokenizer: Tokenizer
    train: TokenArray
    valid: TokenArray


def _open_corpus(context_length: int) -> _Corpus:
    meta = TokenMeta.read()
    tokenizer = matching_tokenizer(meta, paths.TOKENIZER)
    splits = (("train", paths.TOKENS_TRAIN, meta.train), ("valid", paths.TOKENS_VALID, meta.valid))
    for name, path, split in splits:
        if split.tokens <= context_length:
            raise UserError(
                f"{path}: the {name} stories have {split.tokens:,} tokens; "
                f"model.context_length is {context_length:,}, so they should have more than that"
            )
    train, valid = (open_tokens(path, split, meta.vocab_size) for _, path, split in splits)
    check_counts(paths.TOKENS_VALID, valid, meta.valid, tokenizer)  # of the others, no figure is made from them
    return _Corpus(meta, tokenizer, train, valid)


class Training:
    """One training, from its first step or from where it was stopped, to its last."""

    def __init__(
        self,
        params: Params,
        experiment: str | None,
        corpus: _Corpus,
        backend: Backend,
        identity: str,
        conditions: Conditions,
        state: ResumeCheckpoint,
        stop: GracefulShutdown,
    ) -> None:
        self._params = params
        self._experiment = experiment
        self._corpus = corpus
        self._key = training_key(identity, conditions)
        self._state = state
        self._stop = stop
        self._engine = TrainStep(params, corpus.meta.vocab_size, corpus.train, backend)
        self._progress = self._resume() or Progress(started=_now(), training=identity, conditions=dict(conditions))
        if self._progress.ended is None:
            self._progress.environment = {**describe_environment(backend), **conditions}
        self._clock = time.monotonic() - self._progress.seconds
        self._saved_at = time.monotonic()

    def run(self) -> None:
        """Train to the end and write everything. Raises Stopped, with the state saved, where a signal asked to stop.

        A training that has ended before, whose results DVC could not record: they are written again, byte for byte.
        """
        if ended := self._progress.ended:
            info(
                f"This training ended at {ended}, and its last state is kept: its results are written again from that. "
                "To train it anew: make clean-state, then the same command."
            )
            self._write_results()
            return
        self._live = self._open_run()
        status: Status = "FAILED"
        try:
            self._introduce()
            self._train()
            self._progress.seconds = time.monotonic() - self._clock
            self._progress.run_id = self._live.close("FINISHED")
            status = "FINISHED"
            self._end()
        except Stopped as stopped:
            status = "KILLED"
            if not stopped.immediate:  # in the middle of a step there is nothing whole to save; the last state stands
                self._save()
                info(f"Stopped at step {self._progress.step:,}; the next `dvc repro` goes on from there.")
            raise
        finally:
            if status != "FINISHED":
                self._live.close(status)

    def _open_run(self) -> AsyncRunLogger:
        params, root = self._params, paths.repository_root()
        return AsyncRunLogger(
            uri=tracking_uri(params.mlflow.tracking_uri, root),
            experiment=params.mlflow.experiment,
            root=root,
            key=self._key,
            run_id=self._progress.run_id,
            name=self._experiment,
            params=flat_params(params),
            tags=environment_tags(self._progress.environment),
        )

    def _end(self) -> None:
        """The last state stays: DVC has not recorded the results yet, and should it fail to, no step is done again."""
        # A clock that was set back meanwhile does not make it end before it started.
        self._progress.ended = max(_now(), _later(self._progress.started, self._progress.seconds))
        self._state.save(self._engine.tensors(), self._progress)
        prune(paths.training_states(), self._key)
        self._write_results()

    def _introduce(self) -> None:
        run, train, environment = self._progress, self._params.train, self._progress.environment
        info(
            f"{self._engine.model.parameter_count():,} parameters, {train.steps:,} steps of "
            f"{self._tokens(1):,} tokens on {environment['device_name']}, {environment['precision']}"
            f"{', compiled' if environment['compiled'] else ''}"
        )
        if run.step:
            info(f"Going on from step {run.step:,}, where this training was stopped.")

    def _train(self) -> None:
        run, train = self._progress, self._params.train
        with progress("Training", train.steps, run.step) as bar:
            while True:
                if run.step == train.steps_per_epoch * (len(run.epochs) + 1):
                    self._end_epoch()
                if run.step == train.steps:
                    return
                start = time.monotonic()
                self._engine.step(run.step)
                run.step += 1
                logged = run.step % train.log_every == 0 or run.step % train.steps_per_epoch == 0
                loss_sum = self._engine.loss_sum.item() if logged else 0.0  # waits for the device
                self._stop.defer()
                run.train_seconds += time.monotonic() - start
                bar.advance(1)
                if logged:
                    self._log(loss_sum, bar)
                if time.monotonic() - self._saved_at > train.save_every:
                    self._save()
                self._stop.check()

    def _log(self, loss_sum: float, bar: ProgressBar) -> None:
        """Add a row to the history: the mean loss since the row before."""
        run, train = self._progress, self._params.train
        steps = run.step - run.row_step
        loss, gradient_norm = loss_sum / steps, self._engine.gradient_norm.item()
        self._check_finite("training loss", loss)
        self._check_finite("gradient's norm", gradient_norm)
        speed = self._tokens(steps) / max(run.train_seconds - run.row_seconds, 1e-9)
        row = {
            "step": run.step,
            "tokens": self._tokens(run.step),
            "loss": round(loss, 6),
            "learning_rate": float(f"{train.learning_rate * schedule(run.step - 1, train):.6g}"),
            "gradient_norm": float(f"{gradient_norm:.6g}"),
            "tokens_per_second": round(speed, 1),
            "seconds": round(run.train_seconds, 3),
        }
        run.history.append(row)
        run.row_step, run.row_seconds = run.step, run.train_seconds
        run.epoch_loss_sum += loss_sum
        self._engine.loss_sum.zero_()
        self._live.log(run.step, history_metrics(row))
        bar.advance(0, f"step {run.step:,}, loss {loss:.3f}, {speed:,.0f} tokens/s")

    def _check_finite(self, name: str, value: float) -> None:
        train = self._params.train
        if not math.isfinite(value):
            self._state.remove()  # it leads here again
            raise UserError(
                f"the {name} is {value} at step {self._progress.step:,}; train.learning_rate ({train.learning_rate:g}) "
                f"or train.embedding_learning_rate ({train.embedding_learning_rate:g}) should be lower, "
                "or train.warmup longer"
            )

    def _end_epoch(self) -> None:
        """Validate on the whole set, draw samples, add a row to the loss/PPL table."""
        run, number = self._progress, len(self._progress.epochs) + 1
        self._save()  # validation can take long; a stop in it should not cost steps
        model, corpus = self._engine.model.inference_copy(), self._corpus
        valid = self._engine.evaluate_loss(corpus.valid, corpus.meta.valid.bytes, self._stop.check)
        self._check_finite("validation loss", valid.loss)
        title = f"Samples after epoch {number}"
        page = render_samples(model, corpus.tokenizer, self._params.sample, self._params.seed, title, self._stop.check)
        train_loss = run.epoch_loss_sum / self._params.train.steps_per_epoch
        row = {
            "epoch": number,
            "train_loss": round(train_loss, 6),
            "train_ppl": round(perplexity(train_loss), 4),
            "valid_loss": round(valid.loss, 6),
            "valid_ppl": round(valid.perplexity, 4),
            "valid_bits_per_byte": round(valid.bits_per_byte, 6),
            "step": run.step,
            "tokens": self._tokens(run.step),
            "seconds": round(time.monotonic() - self._clock, 3),
        }
        run.epochs.append(row)
        run.samples.append(page)
        run.epoch_loss_sum = 0.0
        self._write_tables()
        self._live.log(run.step, epoch_metrics(row))
        self._live.text(f"samples/epoch_{number}.md", page)
        self._live.text("epochs.csv", paths.EPOCHS.read_text(encoding="utf-8"))
        info(
            f"Epoch {number}: train loss {train_loss:.4f} (PPL {row['train_ppl']:,.2f}), valid loss {valid.loss:.4f} "
            f"(PPL {row['valid_ppl']:,.2f}), {valid.bits_per_byte:.4f} bits per byte"
        )
        self._save()

    def _write_tables(self) -> None:
        """Tables and samples so far: readable while the training goes on."""
        run = self._progress
        for path, rows in ((paths.HISTORY, run.history), (paths.EPOCHS, run.epochs)):
            write_text(path, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
        for number, page in enumerate(run.samples, start=1):
            write_text(paths.EPOCH_SAMPLES / f"epoch_{number}.md", page)

    def _write_results(self) -> None:
        run, last = self._progress, self._progress.epochs[-1]
        self._write_tables()
        save_checkpoint(self._engine.model, paths.TOKENIZER, paths.CHECKPOINT)
        metrics = ("train_loss", "train_ppl", "valid_loss", "valid_ppl", "valid_bits_per_byte")
        write_json(
            paths.TRAIN_METRICS,
            {
                **{name: last[name] for name in metrics},
                "steps": run.step,
                "tokens": self._tokens(run.step),
                "parameters": self._engine.model.parameter_count(),
                "tokens_per_second": round(self._tokens(run.step) / run.train_seconds, 1),
                "seconds": round(run.seconds, 3),
            },
        )
        write_json(
            paths.RUN,
            {
                "run_id": run.run_id,
                "key": self._key,
                "name": self._experiment,
                "started": run.started,
                "ended": run.ended,
                "environment": run.environment,
            },
        )

    def _tokens(self, steps: int) -> int:
        return steps * self._params.train.batch_size * self._params.model.context_length

    def _save(self) -> None:
        run = self._progress
        run.seconds = time.monotonic() - self._clock
        run.run_id = self._live.run_id or run.run_id
        self._state.save(self._engine.tensors(), run)
        self._saved_at = time.monotonic()

    def _resume(self) -> Progress | None:
        saved = self._state.load(self._engine.tensors())
        if saved is None:
            return None
        tensors, progress = saved
        self._engine.restore(tensors)
        return progress


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _later(time: str, seconds: float) -> str:
    return (datetime.fromisoformat(time) + timedelta(seconds=seconds)).isoformat(timespec="seconds")
