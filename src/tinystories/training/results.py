"""The files that the stage `train` writes: tables and samples after each epoch, all the results at the end."""

import statistics

from tinystories.common import paths
from tinystories.common.artifacts import Environment, EpochRow, HistoryRow, Run, TrainMetrics
from tinystories.common.files import write_text
from tinystories.model.checkpoint import save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.training.resume import TrainerState


def write_tables(state: TrainerState) -> None:
    """Write history.csv, epochs.csv and the samples of the epochs so far."""
    HistoryRow.write_table(state.history)
    EpochRow.write_table(state.epochs)
    for number, page in enumerate(state.samples, start=1):
        write_text(paths.EPOCH_SAMPLES / f"epoch_{number}.md", page)


def write_results(state: TrainerState, model: GPT, key: str, name: str | None) -> None:
    """Write everything. `state` is that of a finished training; `name` is the experiment's."""
    assert state.ended is not None
    write_tables(state)
    save_checkpoint(model, paths.TOKENIZER, paths.CHECKPOINT)
    train_metrics(state, model.parameter_count()).write()
    Run(
        run_id=state.run_id,
        key=key,
        name=name,
        started=state.started,
        ended=state.ended,
        environment=Environment.model_validate(state.environment),
    ).write()


def train_metrics(state: TrainerState, parameters: int) -> TrainMetrics:
    """The metrics of a finished training: those of the last epoch, its size and its speed.

    The steady rate is the median over the history, in which few rows contain compiling or the load of other programs.
    """
    last = state.epochs[-1]
    return TrainMetrics(
        train_loss=last.train_loss,
        train_ppl=last.train_ppl,
        valid_loss=last.valid_loss,
        valid_ppl=last.valid_ppl,
        valid_bits_per_byte=last.valid_bits_per_byte,
        steps=last.step,
        tokens=last.tokens,
        parameters=parameters,
        tokens_per_second=round(statistics.median(row.tokens_per_second for row in state.history), 1),
        startup_seconds=round(state.startup_seconds, 3),
        seconds=round(state.seconds, 3),
    )
