"""report.html: the run in one page for a browser, with nothing beside it: style, script and curves are in the file.

The stories and the configuration are any text. Jinja escapes every value, characters that nobody sees become visible
escapes, and the page's policy lets a browser run this one script and load nothing.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, Evaluation, HistoryRow, Manifest, Run, TrainMetrics
from tinystories.common.console import format_duration
from tinystories.common.files import write_text
from tinystories.common.params import Params
from tinystories.common.urls import redact
from tinystories.reporting.chart import make_chart
from tinystories.reporting.formats import format_perplexity, short_count
from tinystories.reporting.markdown import flatten
from tinystories.reporting.report import LOSS_COLUMNS, data_facts, loss_rows, run_rows, run_title, scored_again
from tinystories.reporting.samples import Pages, Sample, epoch_pages, titles_of
from tinystories.reporting.series import warmup_share
from tinystories.reporting.stories import judgement

TEMPLATES = Path(__file__).parent / "templates"
MAX_SAMPLE = 6_000  # characters of one sample; the pages in reports/samples have the rest

# Control characters but tab and line feed; what turns the direction of all that follows; surrogates.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]")


class Column(NamedTuple):
    """An epoch's column beside the others of a prompt: its heading, and the paragraphs and notes below."""

    epoch: int
    loss: str
    paragraphs: list[str]
    notes: list[str]


def write_html_report(params: Params) -> None:
    """Write `reports/report.html`: same files, same bytes. Errors: UserError where a file is missing or damaged."""
    history, epochs = HistoryRow.read_table(), EpochRow.read_table()
    train, evaluation, run, noun = TrainMetrics.read(), Evaluation.read(), Run.read(), Manifest.read().noun
    rows, note = loss_rows(epochs)
    page = (
        page_environment()
        .get_template("report.html")
        .render(
            title=run_title(params),
            headline=_headline(train, evaluation.of(params.publish.model)),
            chart=make_chart(history, epochs, warmup_share(params.train)),
            losses={
                "columns": LOSS_COLUMNS,
                "rows": rows,
                "note": note,
                "explanation": scored_again(params, evaluation, len(epochs)),
            },
            prompts=_prompts(epoch_pages(len(epochs), noun), epochs),
            judged=judgement(noun),
            ran=[(what, redact(value)) for what, value in run_rows(run, train, epochs)],
            data=data_facts(),
            configuration=flatten(params.model_dump(mode="json")),
            style=page_asset("report.css"),
            script=page_asset("tip.js", "report.js"),
        )
    )
    write_text(paths.REPORT_HTML, page)


def page_environment() -> Environment:
    """What renders the templates: every value escaped, and visible."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=visible,
    )
    environment.filters["digest"] = _digest
    return environment


def visible(value: Any) -> Any:
    """Text with an escape such as `\\x1b` for each character that would not be seen where it stands."""
    if type(value) is not str:  # a number, or markup that the template made
        return value
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def page_asset(*names: str) -> str:
    """Styles or scripts as they stand in the page, one after the other."""
    return "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _digest(source: str) -> str:
    """The source as a Content-Security-Policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _headline(train: TrainMetrics, evaluation: Evaluation) -> list[tuple[str, str]]:
    return [
        ("validation loss", f"{evaluation.valid_loss:.4f}"),
        ("perplexity", format_perplexity(evaluation.valid_ppl)),
        ("bits per byte", f"{evaluation.valid_bits_per_byte:.4f}"),
        ("parameters", short_count(train.parameters)),
        ("tokens seen", short_count(train.tokens)),
        ("tokens per second", f"{train.tokens_per_second:,.0f}"),
        ("time", format_duration(train.seconds)),
    ]


def _prompts(pages: Pages, epochs: list[EpochRow]) -> list[tuple[str, list[str], list[Column]]]:
    """For each prompt its name, its lines, and what the model of each epoch made of it."""
    losses = {row.epoch: f"{row.valid_loss:.4f}" for row in epochs}
    found = []
    for title in titles_of(pages):
        samples = {epoch: page[title] for epoch, page in pages.items() if title in page}
        last = next(reversed(samples.values()))
        columns = [_column(epoch, losses.get(epoch, "–"), sample) for epoch, sample in samples.items()]
        found.append((last.name, last.prompt, columns))
    return found


def _column(epoch: int, loss: str, sample: Sample) -> Column:
    shown, room = [], MAX_SAMPLE
    for line in sample.continuation:
        shown.append(line[:room])
        room -= len(line)
        if room <= 0:
            break
    rest = [f"(the rest: {paths.epoch_samples(epoch)})"] if room < 0 else []
    return Column(epoch, loss, shown, rest or sample.notes)
