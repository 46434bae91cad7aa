"""The samples in the reports, read from the pages that evaluate writes."""

import re
from dataclasses import dataclass
from pathlib import Path

from tinystories.common import paths
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.errors import UserError
from tinystories.reporting.markdown import escape, table

CELL = 200  # characters of a continuation in the table of epochs


@dataclass(frozen=True)
class Sample:
    """What the model wrote, as it is in the page: the lines of the prompt, of the continuation, of notes below it."""

    title: str
    prompt: list[str]
    continuation: list[str]
    notes: list[str]

    @property
    def name(self) -> str:
        """The title without the word that only a heading needs: `Prompt 1`, `Unprompted`."""
        return self.title.removesuffix(" sample")


Pages = dict[int, dict[str, Sample]]  # by epoch, then by title


def epoch_pages(epochs: int, noun: str) -> Pages:
    """The samples after each of at most six epochs. Errors: UserError where a page is missing or damaged.

    `epochs` is the number of epochs, `noun` what a text of the corpus is called.
    """
    return {epoch: read_samples(paths.epoch_samples(epoch), noun) for epoch in epochs_with_samples(epochs)}


def titles_of(pages: Pages) -> list[str]:
    """The titles of all pages, each once, in the order of the last page."""
    return list(dict.fromkeys(title for page in reversed(pages.values()) for title in page))


def sample_tables(pages: Pages) -> list[str]:
    """For each prompt a table of the epochs, with how the continuation begins."""
    parts = []
    for title in titles_of(pages):
        found = {epoch: page[title] for epoch, page in pages.items() if title in page}
        sample = next(reversed(found.values()))
        rows = [(f"{epoch:,}", _beginning(each)) for epoch, each in found.items()]
        parts += [f"### {escape(sample.name)}", *_quote(sample.prompt), table(("epoch", "goes on"), rows)]
    return parts


def final_samples(noun: str) -> list[str]:
    """All samples of the finished model, whole."""
    parts = []
    for sample in read_samples(paths.FINAL_SAMPLES, noun).values():
        prompt = ["**Prompt**", *_quote(sample.prompt)] if sample.prompt else []
        notes = map(escape, sample.notes)
        parts += [f"#### {escape(sample.name)}", *prompt, "**Continuation**", *_quote(sample.continuation), *notes]
    return parts


def read_samples(path: Path, noun: str) -> dict[str, Sample]:
    """The samples of one page by title. Errors: UserError where there is none."""
    remedy = "run the stage that writes it again (dvc repro -f -s evaluate)"
    try:
        text = path.read_bytes().decode()  # not read_text, which takes a lone \r in a story for a line end
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; run the stage that writes it (dvc repro evaluate)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 ({error}); {remedy}") from None
    _, *sections = re.split(r"^## ", text.replace("\r\n", "\n"), flags=re.MULTILINE)
    if not sections:
        raise UserError(f"{path}: no sample in it; {remedy}")
    return {title: _sample(title, body, noun) for title, _, body in (section.partition("\n") for section in sections)}


def _sample(title: str, body: str, noun: str) -> Sample:
    """Sort the lines: quoted ones belong to the label above them, other ones are notes, which speak of `noun`."""
    sample = Sample(title, [], [], [])
    lines = sample.continuation
    for line in body.split("\n"):
        text = line.removeprefix(">").strip()
        if line.startswith(">"):
            lines.append(text)
        elif text == "**Prompt**":
            lines = sample.prompt
        elif text == "**Continuation**":
            lines = sample.continuation
        else:
            sample.notes.append(text.replace("the story", f"the {noun}"))
    return Sample(
        title, *([line for line in part if line] for part in (sample.prompt, sample.continuation, sample.notes))
    )


def _quote(lines: list[str]) -> list[str]:
    return ["\n>\n".join(f"> {escape(line)}" for line in lines)] if lines else []


def _beginning(sample: Sample) -> str:
    text = " ".join(" ".join(sample.continuation or sample.notes).split())
    if len(text) <= CELL:
        return text
    words, _, _ = text[:CELL].rpartition(" ")
    return (words or text[:CELL]) + " …"
