"""report.md: the run described from the files of the earlier stages."""

from datetime import UTC, datetime
from typing import NamedTuple

from tinystories.common import paths
from tinystories.common.artifacts import (
    EpochRow,
    Evaluation,
    HistoryRow,
    Manifest,
    Run,
    TokenMeta,
    TrainMetrics,
)
from tinystories.common.console import format_duration, plural
from tinystories.common.corpus_figures import CorpusFigures
from tinystories.common.epochs import evenly_spaced
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.common.urls import redact
from tinystories.reporting.formats import format_perplexity, short_count
from tinystories.reporting.markdown import escape, flatten, table
from tinystories.reporting.samples import epoch_pages, final_samples, sample_tables
from tinystories.reporting.stories import judged_stories

MAX_EPOCHS_IN_TABLE = 50
MAX_DETAIL_LINES = 40
SOURCES = {"embedded": "embedded stories", "files": "own documents"}


def write_report(params: Params) -> None:
    """Write `reports/report.md`. Errors: UserError where a file of an earlier stage is missing or damaged."""
    epochs, train, evaluation, run = EpochRow.read_table(), TrainMetrics.read(), Evaluation.read(), Run.read()
    noun = Manifest.read().noun
    parts = [
        f"# {run_title(params)}",
        _result(train, evaluation, run, len(epochs), params),
        "## Loss and perplexity",
        loss_table(epochs),
        scored_again(params, evaluation, len(epochs)),
        "![Training and validation loss against the tokens seen](plot.png)",
        *_slice_caption(),
        "## What the model writes",
        *sample_tables(epoch_pages(len(epochs), noun)),
        "### The finished model",
        *final_samples(noun),
        *judged_stories(noun),
        "## What ran, on what, for how long",
        table(("what", "value"), run_rows(run, train, epochs)),
        "## Data",
        data_section(),
        "## Configuration",
        table(("key", "value"), flatten(params.model_dump(mode="json"))),
        "## Use it, repeat it",
        _instructions(params, run.environment.git_commit),
    ]
    write_text(paths.REPORT, "\n\n".join(parts) + "\n")


def run_title(params: Params) -> str:
    """The model, its data and its tokens: `GPT, 8.9 M parameters, on TinyStories V2 · 163.8 M tokens`."""
    train = TrainMetrics.read()
    data = SOURCES.get(Manifest.read().source, f"TinyStories {params.data.tinystories.edition.upper()}")
    return f"GPT, {short_count(train.parameters)} parameters, on {data} · {short_count(train.tokens)} tokens"


LOSS_COLUMNS = ("epoch", "train loss", "train PPL", "valid loss", "valid PPL", "bits/byte", "tokens", "time")


def loss_table(epochs: list[EpochRow]) -> str:
    """The loss/PPL table as padded Markdown, of at most 50 evenly spaced epochs."""
    rows, note = loss_rows(epochs)
    return "\n\n".join(filter(None, (table(LOSS_COLUMNS, rows, align=str.rjust), note)))


def loss_rows(epochs: list[EpochRow]) -> tuple[list[tuple[str, ...]], str]:
    """The rows of the loss/PPL table, at most 50, and what is to be said where some are left out."""
    shown = [epochs[index] for index in evenly_spaced(len(epochs), MAX_EPOCHS_IN_TABLE)]
    rows: list[tuple[str, ...]] = [
        (
            f"{row.epoch:,}",
            f"{row.train_loss:.4f}",
            format_perplexity(row.train_ppl),
            f"{row.valid_loss:.4f}",
            format_perplexity(row.valid_ppl),
            f"{row.valid_bits_per_byte:.4f}",
            f"{row.tokens:,}",
            format_duration(row.seconds),
        )
        for row in shown
    ]
    return rows, "" if len(shown) == len(epochs) else f"{len(shown)} of {len(epochs):,} epochs; all: epochs.csv"


def _result(train: TrainMetrics, evaluation: Evaluation, run: Run, last: int, params: Params) -> str:
    is_earlier = params.publish.model == "best" and evaluation.best_epoch < last
    epoch = f", after epoch {evaluation.best_epoch:,}" if is_earlier else ""
    return (
        f"**Validation {scores(evaluation.of(params.publish.model))}{epoch}.** A GPT of {train.parameters:,} "
        f"parameters saw {plural(train.tokens, 'token')} in {plural(train.steps, 'step')}; on "
        f"{escape(run.environment.device_name)} that took {format_duration(train.seconds)}."
    )


def scores(evaluation: Evaluation) -> str:
    """The finished model's figures: `loss 1.2345, perplexity 3.44, 0.4322 bits per byte`."""
    return (
        f"loss {evaluation.valid_loss:.4f}, perplexity {format_perplexity(evaluation.valid_ppl)}, "
        f"{evaluation.valid_bits_per_byte:.4f} bits per byte"
    )


def _best(evaluation: Evaluation, last: int, params: Params) -> str:
    """Which epoch was the best, and which model is published."""
    if evaluation.best_epoch == last:
        return "No epoch before had a lower validation loss."
    published = evaluation.best_epoch if params.publish.model == "best" else last
    return (
        f"Epoch {evaluation.best_epoch:,} had the lowest: {scores(evaluation.of('best'))}; its weights are in "
        f"{paths.BEST}. Published (publish.model), and judged below, is the model of epoch {published:,}."
    )


def _slice_caption() -> list[str]:
    if all(row.valid_slice_loss is None for row in HistoryRow.read_table()):
        return []
    return [
        "The points are the losses on the whole validation set, as in the table. The line beside them is the loss on "
        "a slice of it, always the same (`valid_slice_loss` in history.csv)."
    ]


def scored_again(params: Params, evaluation: Evaluation, last: int) -> str:
    """What the stage `evaluate` found, and which model is published. `last`: the number of epochs."""
    return (
        f"Losses are in nats per token. The last epoch's model, scored again in {params.evaluate.precision} "
        f"on the {evaluation.valid_tokens:,} validation tokens that it predicts, all but the first, an end-of-text: "
        f"{scores(evaluation)}. {_best(evaluation, last, params)}"
    )


def run_rows(run: Run, train: TrainMetrics, epochs: list[EpochRow]) -> list[tuple[str, str]]:
    """What ran, on what, for how long."""
    environment = run.environment
    started, ended = (datetime.fromisoformat(time).astimezone(UTC) for time in (run.started, run.ended))
    return [
        ("device", f"{environment.device_name} ({environment.device})"),
        ("precision", environment.precision + (", compiled" if environment.compiled else ", not compiled")),
        ("CPU threads", f"{environment.threads:,}"),
        ("started", f"{started:%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", f"{max(started, ended):%Y-%m-%d %H:%M:%S} UTC"),  # the clock may have been set back
        ("duration", f"{format_duration(train.seconds)}, of which training {format_duration(epochs[-1].seconds)}"),
        (
            "speed",
            f"{train.tokens_per_second:,.0f} tokens per second (median), "
            f"after a start-up of {format_duration(train.startup_seconds)}",
        ),
        ("torch", environment.torch),
        ("Python", environment.python),
        ("platform", environment.platform),
        ("commit", environment.git_commit or "none"),
        ("experiment", run.name or "none"),
        ("MLflow run", run.run_id or "none"),
        ("key", run.key[:12]),
    ]


class DataFacts(NamedTuple):
    """Where the stories are from, a line for each detail, a table of both splits, and what the checks found."""

    source: str
    detail: list[str]
    rows: list[tuple[str, ...]]
    checks: str


def data_section() -> str:
    """The data's facts as Markdown."""
    facts = data_facts()
    lines = [f"- {escape(line)}" for line in facts.detail]
    shown = table(("", "training", "validation"), facts.rows, align=str.rjust)
    return "\n\n".join(filter(None, (escape(facts.source), "\n".join(lines), shown, facts.checks)))


def data_facts() -> DataFacts:
    """The data's facts from the files of the first stages. Errors: UserError where one is missing or damaged."""
    manifest, meta, figures = Manifest.read(), TokenMeta.read(), CorpusFigures.read()
    texts = "documents" if manifest.noun == "document" else "stories"
    files, tokens, splits = (manifest.train, manifest.valid), (meta.train, meta.valid), (figures.train, figures.valid)
    rows = [
        (texts, *(f"{file.stories:,}" for file in files)),
        ("bytes", *(f"{file.bytes:,}" for file in files)),
        ("tokens", *(f"{split.tokens:,}" for split in tokens)),
        ("bytes per token", *(f"{split.bytes / split.tokens:.3f}" for split in tokens)),
        ("words", *(f"{split.words:,}" for split in splits)),
        ("tokens in a median one", *(f"{split.p50:,}" for split in splits)),
        ("in 90 % of them", *(f"{split.p5:,} to {split.p95:,}" for split in splits)),
        ("in the longest", *(f"{split.longest:,}" for split in splits)),
        ("sha256", *(file.sha256[:12] for file in files)),
    ]
    source = f"Source: {redact(manifest.source)}. Vocabulary: {meta.vocab_size:,} tokens."
    detail = [(key.replace(".stories", f".{texts}"), value) for key, value in flatten(manifest.detail)]
    lines = [f"{key}: {value}" for key, value in detail]
    if len(lines) > MAX_DETAIL_LINES:  # one document a file: thousands of files
        lines[MAX_DETAIL_LINES:] = [f"{len(lines) - MAX_DETAIL_LINES:,} lines more: {paths.RAW_MANIFEST}"]
    checks = (
        f"Of the training {texts}, {figures.cut_stories:.1%} are longer than the context and {figures.duplicates:.1%} "
        f"copies of another one; {figures.overlap:.1%} of the validation {texts} are among them. "
        f"Text decoded wrongly: {figures.mojibake:.3g} places in each MB."
    )
    return DataFacts(source, lines, rows, checks)


def _instructions(params: Params, commit: str | None) -> str:
    checkout = f"git checkout {commit[:12]}\n" if commit else ""
    another_seed = f"dvc exp run -S seed={(params.seed + 1) % 2**63}"
    sample = params.sample
    directory = paths.published(params.publish.model)
    return f"""The checkpoint opens in `transformers` as it is:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("{directory}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
prompt = tokenizer("Once upon a time", return_tensors="pt")
choice = {{"do_sample": True, "top_k": {sample.top_k}, "temperature": {sample.temperature}}}
text = model.generate(**prompt, **choice, max_new_tokens={sample.max_new_tokens})
print(tokenizer.decode(text[0], skip_special_tokens=True))
```

To run it again, and to change something (with the values of the table above in params.yaml):

```sh
{checkout}dvc repro                      # only what is missing or has changed
{another_seed:<31}# one change, as an experiment of its own
dvc exp show                   # all experiments in one table
mlflow ui                      # all runs, with curves
```"""
