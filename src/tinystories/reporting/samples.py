"""The samples in the report, read from the pages that evaluate writes."""

import re
from pathlib import Path

from tinystories.common import paths
from tinystories.common.epochs import epochs_with_samples
from tinystories.common.errors import UserError
from tinystories.reporting.markdown import escape


def epoch_samples(epochs: int, noun: str) -> list[str]:
    """The first sample after each epoch, of at most six; the last only if it is none of the finished model.

    `epochs` is their number, `noun` what a text of the corpus is called.
    """
    final = _sections(paths.FINAL_SAMPLES, noun).values()
    parts = []
    for epoch in epochs_with_samples(epochs):
        sample = next(iter(_sections(paths.epoch_samples(epoch), noun).values()))
        if epoch < epochs or sample not in final:
            parts += [f"### After epoch {epoch}", sample]
    return parts


def final_samples(noun: str) -> list[str]:
    """All samples of the finished model."""
    sections = _sections(paths.FINAL_SAMPLES, noun)
    return [part for title, body in sections.items() for part in (f"#### {escape(title)}", body)]


def _sections(path: Path, noun: str) -> dict[str, str]:
    """The samples of one page by heading, every line escaped. Errors: UserError where there is none."""
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
    return {title: _sample(body, noun) for title, _, body in (section.partition("\n") for section in sections)}


def _sample(body: str, noun: str) -> str:
    """A sample's lines, each a paragraph: quoted text stays quoted, the labels stay bold, notes speak of `noun`."""
    blocks: list[str] = []
    for line in body.split("\n"):
        quoted, text = line.startswith(">"), line.removeprefix(">").strip()
        if not text:
            continue
        shown = text if text in ("**Prompt**", "**Continuation**") and not quoted else escape(text)
        if quoted and blocks and blocks[-1].startswith("> "):
            blocks[-1] += f"\n>\n> {shown}"
        else:
            blocks.append(f"> {shown}" if quoted else shown.replace("the story", f"the {noun}"))
    return "\n\n".join(blocks)
