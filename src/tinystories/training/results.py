"""The files that the stage `train` writes: tables after each epoch, all the results at the end."""

import statistics

from tinystories.common import paths
from tinystories.common.artifacts import Environment, EpochIndex, EpochRow, HistoryRow, Parent, Run, TrainMetrics
from tinystories.model.checkpoint import copy_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.training.kept_epochs import best_epoch, shown_epochs
from tinystories.training.resume import ResumeCheckpoint, TrainerState


def write_tables(state: TrainerState) -> None:
    """Write history.csv and epochs.csv."""
    HistoryRow.write_table(state.history)
    EpochRow.write_table(state.epochs)


def write_results(
    state: TrainerState, model: GPT, checkpoint: ResumeCheckpoint, name: str | None, parent: Parent | None
) -> None:
    """Write everything. `state` is that of a finished training; `name` is the experiment's."""
    assert state.ended is not None
    write_tables(state)
    shown, last, best = shown_epochs(state, len(state.epochs)), len(state.epochs), best_epoch(state.epochs)
    for number in shown:
        # Not a link: DVC may move the file into its cache, and make it read-only.
        copy_checkpoint(checkpoint.epoch(number), paths.epoch_checkpoint(number))
    EpochIndex(epochs=[*shown, last], best=best).write()
    save_checkpoint(model, paths.TOKENIZER, paths.CHECKPOINT)
    copy_checkpoint(paths.CHECKPOINT if best == last else checkpoint.epoch(best), paths.BEST)
    train_metrics(state, model.parameter_count()).write()
    Run(
        run_id=state.run_id,
        key=checkpoint.key,
        name=name,
        started=state.started,
        ended=state.ended,
        environment=Environment.model_validate(state.environment),
        parent=parent,
    ).write()


def train_metrics(state: TrainerState, parameters: int) -> TrainMetrics:
    """The metrics of a finished training: those of the last epoch, its size and its speed.

    The steady rate is the median over the history, in which few rows contain compiling or the load of other programs.
    """
    last = state.epochs[-1]
    return TrainMetrics(
        train_loss=last.train_loss,
        train_ppl=last.train_ppl,
        steps=last.step,
        tokens=last.tokens,
        parameters=parameters,
        tokens_per_second=round(statistics.median(row.tokens_per_second for row in state.history), 1),
        startup_seconds=round(state.startup_seconds, 3),
        seconds=round(state.seconds, 3),
    )
