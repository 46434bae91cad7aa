"""report.md: the run told to a person, written from the files that the stages left."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tinystories.common import paths
from tinystories.common.console import format_duration
from tinystories.common.errors import UserError, shorten
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.common.reading import read_json
from tinystories.common.urls import redact
from tinystories.reporting.plot import EPOCH_COLUMNS, evenly_spaced, perplexity, read_table, short_count

MAX_EPOCHS_IN_TABLE = 50
MAX_EPOCHS_WITH_SAMPLES = 6
SOURCES = {"embedded": "embedded stories", "files": "own stories"}


def write_report(params: Params) -> None:
    """Write `reports/report.md` from the files of the earlier stages.

    Errors: UserError naming the file that is missing or damaged, and the stage that writes it.
    """
    epochs = read_table(paths.EPOCHS, EPOCH_COLUMNS)
    parts = [
        f"# {run_title(params)}",
        _result(),
        "## Loss and perplexity",
        loss_table(epochs),
        _evaluation(params),
        "![Training and validation loss against the tokens seen](plot.png)",
        "## What the model writes",
        *_samples_by_epoch(epochs),
        "### The finished model",
        *_final_samples(),
        "## What ran, on what, for how long",
        _run(epochs),
        "## Data",
        _data(),
        "## Configuration",
        _table(("key", "value"), _dotted(params.model_dump(mode="json"))),
        "## Use it, repeat it",
        _instructions(params),
    ]
    write_text(paths.REPORT, "\n\n".join(parts) + "\n")


def run_title(params: Params) -> str:
    """What was trained on what: `GPT, 8.9 M parameters, on TinyStories V2 · 163.8 M tokens`."""
    source = _Json(paths.RAW_MANIFEST, "download").text("source")
    data = SOURCES.get(source, f"TinyStories {params.data.tinystories.edition.upper()}")
    train = _Json(paths.TRAIN_METRICS, "train")
    return (
        f"GPT, {short_count(train.number('parameters'))} parameters, on {data}"
        f" · {short_count(train.number('tokens'))} tokens"
    )


def loss_table(epochs: pd.DataFrame) -> str:
    """The loss/PPL table as padded Markdown, which reads well in a terminal too; evenly thinned where very long."""
    names = ("epoch", "train loss", "train PPL", "valid loss", "valid PPL", "bits per byte", "tokens", "time")
    shown = [epochs.iloc[place] for place in evenly_spaced(len(epochs), MAX_EPOCHS_IN_TABLE)]
    rows = [
        (
            f"{row['epoch']:,.0f}",
            f"{row['train_loss']:.4f}",
            perplexity(row["train_ppl"]),
            f"{row['valid_loss']:.4f}",
            perplexity(row["valid_ppl"]),
            f"{row['valid_bits_per_byte']:.4f}",
            f"{row['tokens']:,.0f}",
            format_duration(row["seconds"]),
        )
        for row in shown
    ]
    table = _table(names, rows, align=str.rjust)
    return table if len(shown) == len(epochs) else f"{table}\n\n{len(shown)} of {len(epochs):,} epochs; all: epochs.csv"


def escape(text: str) -> str:
    """One line of anybody's text as Markdown that shows it literally; what is escaped already stays as it is."""
    text = re.sub(r"[\x00-\x1f\x7f\x85\u2028\u2029]", " ", text).strip()
    text = re.sub(r"&(?!(?:lt|gt|amp|quot|#\d+);)", "&amp;", text)
    # Entities where some renderers know no backslash (MLflow's <) or treat it specially (GitHub's $).
    text = text.replace("<", "&lt;").replace("$", "&#36;")
    special = r"[\\`*\[\]|~>]|(?<!&)#|(?<![a-zA-Z0-9])_|_(?![a-zA-Z0-9])"  # an underscore within a word is no emphasis
    text = re.sub(rf"\\([!-/:-@\[-`{{-~])|({special})", lambda found: "\\" + (found[1] or found[2]), text)
    return re.sub(r"^(\d*)([-+=.)](?:\s|$|(?=[-=])))", r"\1\\\2", text)  # list items and underlined headings


class _Json:
    """A JSON file whose values are asked for by dotted key; one that is missing names the file and its stage."""

    def __init__(self, path: Path, stage: str) -> None:
        self._path, self._stage, self._value = path, stage, read_json(path)

    def get(self, key: str, kind: tuple[type, ...], wanted: str) -> Any:
        value: Any = self._value
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
            found = "missing" if value is None else shorten(repr(value))
            remedy = f"run the stage that writes it again (dvc repro -f -s {self._stage})"
            raise UserError(f"{self._path}: {key} is {found}, expected {wanted}; {remedy}")
        return value

    def number(self, key: str) -> float:
        return float(self.get(key, (int, float), "a number"))

    def text(self, key: str) -> str:
        return str(self.get(key, (str,), "text"))

    def optional(self, key: str) -> str | None:
        value: str | None = self.get(key, (str, type(None)), "text or null")
        return value

    def time(self, key: str) -> datetime:
        try:
            return datetime.fromisoformat(self.text(key)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise UserError(f"{self._path}: {key} is {shorten(self.text(key))!r}, expected an ISO 8601 time") from None


def _result() -> str:
    train, device = _Json(paths.TRAIN_METRICS, "train"), _Json(paths.RUN, "train").text("environment.device_name")
    return (
        f"**Validation {_scores()}.** A GPT of {train.number('parameters'):,.0f} parameters saw "
        f"{train.number('tokens'):,.0f} tokens in {train.number('steps'):,.0f} steps; on {escape(device)} "
        f"that took {format_duration(train.number('seconds'))}."
    )


def _evaluation(params: Params) -> str:
    tokens = _Json(paths.EVALUATION, "evaluate").number("valid_tokens")
    return (
        "Losses are in nats per token. The finished model, scored again "
        f"in {params.evaluate.precision} on all {tokens:,.0f} validation tokens: {_scores()}."
    )


def _scores() -> str:
    final = _Json(paths.EVALUATION, "evaluate")
    return (
        f"loss {final.number('valid_loss'):.4f}, perplexity {perplexity(final.number('valid_ppl'))}, "
        f"{final.number('valid_bits_per_byte'):.4f} bits per byte"
    )


def _samples_by_epoch(epochs: pd.DataFrame) -> list[str]:
    parts = []
    for place in evenly_spaced(len(epochs), MAX_EPOCHS_WITH_SAMPLES):
        epoch = int(epochs["epoch"].iloc[place])
        sections = _sections(paths.SAMPLES / f"epoch_{epoch}.md", "train")
        parts += [f"### After epoch {epoch}", next(iter(sections.values()))]
    return parts


def _final_samples() -> list[str]:
    sections = _sections(paths.FINAL_SAMPLES, "evaluate")
    return [part for title, body in sections.items() for part in (f"#### {escape(title)}", body)]


def _sections(path: Path, stage: str) -> dict[str, str]:
    """The samples of one file by heading, every line of them escaped."""
    try:
        text = path.read_bytes().decode()  # not read_text, to which a story's lone \r would be a line end
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro {stage})") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 ({error}); run the stage {stage} again") from None
    _, *sections = re.split(r"^## ", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    if not sections:
        raise UserError(f"{path}: no sample in it; run the stage {stage} again (dvc repro -f -s {stage})")
    return {title: _sample(body) for title, _, body in (section.partition("\n") for section in sections)}


def _sample(body: str) -> str:
    """A sample's lines, each a paragraph of its own: quoted text stays quoted, the labels stay bold."""
    blocks: list[str] = []
    for line in body.split("\n"):
        quoted, text = line.startswith(">"), line.removeprefix(">").strip()
        if not text:
            continue
        shown = text if text in ("**Prompt**", "**Continuation**") and not quoted else escape(text)
        if quoted and blocks and blocks[-1].startswith("> "):
            blocks[-1] += f"\n>\n> {shown}"
        else:
            blocks.append(f"> {shown}" if quoted else shown)
    return "\n\n".join(blocks)


def _run(epochs: pd.DataFrame) -> str:
    run, train = _Json(paths.RUN, "train"), _Json(paths.TRAIN_METRICS, "train")
    compiled = run.get("environment.compiled", (bool,), "true or false")
    rows = [
        ("device", f"{run.text('environment.device_name')} ({run.text('environment.device')})"),
        ("precision", run.text("environment.precision") + (", compiled" if compiled else ", not compiled")),
        ("CPU threads", f"{run.number('environment.threads'):,.0f}"),
        ("started", f"{run.time('started'):%Y-%m-%d %H:%M:%S} UTC"),
        ("ended", f"{max(run.time('started'), run.time('ended')):%Y-%m-%d %H:%M:%S} UTC"),  # a clock can be set back
        (
            "duration",
            f"{format_duration(train.number('seconds'))}, "
            f"of which training {format_duration(epochs['seconds'].iloc[-1])}",
        ),
        ("speed", f"{train.number('tokens_per_second'):,.0f} tokens per second"),
        ("torch", run.text("environment.torch")),
        ("Python", run.text("environment.python")),
        ("platform", run.text("environment.platform")),
        ("commit", run.optional("environment.git_commit") or "none"),
        ("experiment", run.optional("name") or "none"),
        ("MLflow run", run.optional("run_id") or "none"),
        ("key", run.text("key")[:12]),
    ]
    return _table(("what", "value"), rows)


def _data() -> str:
    raw, tokens = _Json(paths.RAW_MANIFEST, "download"), _Json(paths.TOKENS_META, "tokenize_to_memmap")
    parts = ("train", "valid")
    rows = [
        ("stories", *(f"{raw.number(f'{part}.stories'):,.0f}" for part in parts)),
        ("bytes", *(f"{raw.number(f'{part}.bytes'):,.0f}" for part in parts)),
        ("tokens", *(f"{tokens.number(f'{part}.tokens'):,.0f}" for part in parts)),
        (
            "bytes per token",
            *(f"{tokens.number(f'{part}.bytes') / max(tokens.number(f'{part}.tokens'), 1):.3f}" for part in parts),
        ),
        ("sha256", *(raw.text(f"{part}.sha256")[:12] for part in parts)),
    ]
    detail = "\n".join(
        f"- {escape(key)}: {escape(value)}" for key, value in _dotted(raw.get("detail", (dict,), "an object"))
    )
    source = f"Source: {escape(raw.text('source'))}. Vocabulary: {tokens.number('vocab_size'):,.0f} tokens."
    return "\n\n".join(filter(None, (source, detail, _table(("", "training", "validation"), rows, align=str.rjust))))


def _instructions(params: Params) -> str:
    commit = _Json(paths.RUN, "train").optional("environment.git_commit")
    checkout = f"git checkout {commit[:12]}\n" if commit else ""
    another_seed = f"dvc exp run -S seed={(params.seed + 1) % 2**63}"
    sample = params.sample
    return f"""The checkpoint opens in `transformers` as it is:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("models/checkpoint")
tokenizer = AutoTokenizer.from_pretrained("models/checkpoint")
prompt = tokenizer("Once upon a time", return_tensors="pt")
choice = {{"do_sample": True, "top_k": {sample.top_k}, "temperature": {sample.temperature}}}
story = model.generate(**prompt, **choice, max_new_tokens={sample.max_new_tokens})
print(tokenizer.decode(story[0], skip_special_tokens=True))
```

To run it again, and to change something (with the values of the table above in params.yaml):

```sh
{checkout}dvc repro                      # only what is missing or has changed
{another_seed:<31}# one change, as an experiment of its own
dvc exp show                   # all experiments beside each other
mlflow ui                      # the record, with curves
```"""


def _dotted(values: Any, key: str = "") -> list[tuple[str, str]]:
    """Every value below `values` with its dotted key; addresses lose their credentials."""
    if isinstance(values, dict) and values:
        return [pair for name, value in values.items() for pair in _dotted(value, f"{key}.{name}".lstrip("."))]
    if isinstance(values, list) and values:
        return [pair for place, value in enumerate(values) for pair in _dotted(value, f"{key}.{place}")]
    if isinstance(values, str):
        return [(key, redact(values) or "(empty)")]
    return [(key, str(values) if values not in ({}, [], None) else "(none)")]


def _table(names: tuple[str, ...], rows: list[Any], align: Any = str.ljust) -> str:
    """A Markdown table, every cell escaped, and padded so that it reads well as text."""
    cells = [[escape(cell) for cell in row] for row in (names, *rows)]
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(names))]
    rule = ["-" * (width - 1) + (":" if align == str.rjust else "-") for width in widths]
    head, *body = ["| " + " | ".join(map(align, row, widths)) + " |" for row in cells]
    return "\n".join([head, "| " + " | ".join(rule) + " |", *body])
