"""`tinystories score`: how well a model predicts texts, story by story or token by token."""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinystories.common.console import escape_control

if TYPE_CHECKING:
    from tinystories.api.model import Model
    from tinystories.api.scoring import Figures, StoryScore

EXAMPLES = """\
examples:
  tinystories score my_story.txt
  tinystories score data/raw/valid.txt --json | tail -1
  tinystories score --tokens my_story.txt      where was the model surprised?
  echo "Once upon a time" | tinystories score
  tinystories score -m models:/tinystories/1 a.txt b.txt

A line <|endoftext|> ends a story; a file without one is one story. Every story is predicted from its beginning to its
end, which counts as a token. Loss is in nats per token; only bits per byte can be compared between tokenizers.
"""
COLUMNS = f"{'story':>7}  {'tokens':>8}  {'bytes':>9}  {'loss':>7}  {'PPL':>10}  {'bits/byte':>9}"
# Bits of a token, and the background from there on, of the 256 that terminals know: none, yellow, orange, red.
COLOURS = ((1, ""), (3, "48;5;229"), (6, "48;5;222"), (10, "48;5;216"), (math.inf, "48;5;203"))
BLACK = "38;5;16"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("files", nargs="*", type=Path, metavar="FILE", help="texts in UTF-8; none, or -, for standard input")
    add("-m", "--model", default="models/checkpoint", help="a checkpoint directory or models:/NAME@ALIAS (%(default)s)")
    add("--tokens", action="store_true", help="each token with its bits; in a terminal the text, coloured by surprise")
    add("--json", action="store_true", help="a line of JSON for each story, and one for each file")


def run(options: argparse.Namespace) -> None:
    """Score each file."""
    from tinystories.common.cores import limit_spinning

    limit_spinning()
    files = options.files or [Path("-")]
    for path in files:
        if path != Path("-"):
            path.open("rb").close()  # before PyTorch is imported
        elif sys.stdin.isatty():
            print("The text? Ctrl-D ends it.", file=sys.stderr)
    from tinystories.api.model import load

    model = load(options.model)
    for path in files:
        _score_file(model, path, options, several=len(files) > 1)


def _score_file(model: "Model", path: Path, options: argparse.Namespace, several: bool) -> None:
    """Write a file's stories as they are scored, then their total. Errors: UserError for a file without a story."""
    from tinystories.api.scoring import Figures, total
    from tinystories.common.errors import UserError
    from tinystories.corpus.stories import read_stories, stories_in

    name = "standard input" if path == Path("-") else str(path)
    stories = stories_in(sys.stdin.buffer, name) if path == Path("-") else read_stories(path)
    figures = Figures(0.0, 0, 0)
    number = 0
    for number, score in enumerate(model.score_each(stories), start=1):
        figures = total([figures, score])
        if options.json:
            row: dict[str, Any] = {"file": name, "story": number, **_values(score)}
            if options.tokens:
                row["token_bits"] = [[text, round(bits, 4)] for text, bits in score.token_bits]
            print(json.dumps(row), flush=True)
            continue
        if number == 1 and several:
            print(f"{escape_control(name)}:")
        if options.tokens:
            _print_tokens(score)
            continue
        if number == 1:
            print(f"{COLUMNS}  begins")
        print(f"{_row(str(number), score)}  {escape_control(score.text[:30])}", flush=True)
    if not number:
        raise UserError(f"{name}: no text to score")
    if options.json:
        print(json.dumps({"file": name, "stories": number, **_values(figures)}))
        return
    if options.tokens:
        print(*([_legend()] if _colours() else []), COLUMNS, sep="\n")
    if options.tokens or number > 1:
        print(_row("all", figures))


def _values(figures: "Figures") -> dict[str, float]:
    return {
        "tokens": figures.tokens,
        "bytes": figures.bytes,
        "loss": round(figures.loss, 6),
        "perplexity": round(figures.perplexity, 4),
        "bits_per_byte": round(figures.bits_per_byte, 6),
    }


def _row(name: str, figures: "Figures") -> str:
    return (
        f"{name:>7}  {figures.tokens:>8,}  {figures.bytes:>9,}  {figures.loss:>7.4f}  {figures.perplexity:>10,.2f}  "
        f"{figures.bits_per_byte:>9.4f}"
    )


def _print_tokens(score: "StoryScore") -> None:
    """Print the text coloured, on a terminal; elsewhere a line for each token: its bits, and the text as in JSON."""
    from tinystories.api.text import show

    if not _colours():
        sys.stdout.writelines(
            f"{bits:8.3f}  {show(json.dumps(text, ensure_ascii=False))}\n" for text, bits in score.token_bits
        )
        return
    print("".join(_coloured(show(text), bits) for text, bits in score.token_bits), flush=True)


def _colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _legend() -> str:
    """Name the colours: the bits up to which each stands."""
    return "bits of a token: " + "".join(
        _coloured(f" up to {limit} " if limit < math.inf else " more ", limit) for limit, _ in COLOURS
    )


def _coloured(text: str, bits: float) -> str:
    """Colour a token by its bits; a line end within stays uncoloured, else the rest of the line would take it on."""
    colour = next(colour for limit, colour in COLOURS if bits <= limit)
    if not colour:
        return text
    return "\n".join(f"\x1b[{BLACK};{colour}m{part}\x1b[0m" if part else "" for part in text.split("\n"))
