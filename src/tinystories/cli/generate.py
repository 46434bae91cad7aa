"""`tinystories generate`: write stories to the screen as they are drawn."""

import argparse
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tinystories.common.console import plural
from tinystories.common.special_tokens import END_OF_TEXT

if TYPE_CHECKING:
    from tinystories.api.model import Model
    from tinystories.api.sampling import Sampling
    from tinystories.api.stories import Story

EXAMPLES = """\
examples:
  tinystories generate "Once upon a time"
  tinystories generate                                 asks for a beginning, in a terminal, again and again
  tinystories generate "" --temperature 0.7 -n 3       three stories without a prompt, cautiously drawn
  tinystories generate --seed 7 --json "Tom and Lily"  the same story each time, as JSON
  tinystories generate -m models:/tinystories@champion "One day"
  tinystories generate -n 20 "" | tinystories score
  tinystories generate < beginning.txt

Several stories are separated by a line <|endoftext|>. With --seed 7 -n 3 they are those of the seeds 7, 8 and 9.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.epilog = EXAMPLES
    add = parser.add_argument
    add("prompt", nargs="?", help='how the story begins; "" for none, - for what standard input holds')
    add("-m", "--model", default="models/checkpoint", help="a checkpoint directory or models:/NAME@ALIAS (%(default)s)")
    add("-n", type=int, default=1, metavar="N", help="draw this many stories side by side (1)")
    add("--length", type=int, default=500, metavar="N", help="stop after this many tokens (%(default)s), or the end")
    add("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens (the checkpoint's own, else 40)")
    add("--top-p", type=float, metavar="P", help="of these, the likeliest that together have this share (1)")
    add(
        "--temperature",
        type=float,
        metavar="T",
        help="higher is more daring, 0 the likeliest (its own, else 1)",
    )
    add("--seed", type=int, metavar="N", help="the same seed gives the same story")
    add("--json", action="store_true", help="a line of JSON for each story: prompt, text, seed, tokens, ended")


def run(options: argparse.Namespace) -> None:
    """Write the stories of one prompt, or of each one that is typed."""
    from tinystories.common.cores import limit_spinning

    limit_spinning()
    asks = options.prompt is None and sys.stdin.isatty()
    prompt = "" if asks else _given(options.prompt)
    given = {"top_k": options.top_k, "top_p": options.top_p, "temperature": options.temperature}
    _check(given, options)
    from tinystories.api.model import load
    from tinystories.model.device import translate_device_errors

    model = load(options.model)
    sampling = model.sampling.changed(given)
    with translate_device_errors("-n"):
        for each in _typed() if asks else [prompt]:
            _write(model, each, sampling, options)


def _check(given: dict[str, float | None], options: argparse.Namespace) -> None:
    """Check the values before PyTorch is imported. Errors: UserError."""
    from tinystories.api.sampling import Sampling, check_length, seeds_from

    Sampling().changed(given)
    check_length(options.length)
    seeds_from(options.seed, options.n)


def _given(prompt: str | None) -> str:
    """The prompt, or what standard input holds without its last line end. Errors: UserError where it is not UTF-8."""
    from tinystories.common.errors import UserError

    if prompt not in (None, "-"):
        return prompt or ""
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"standard input: not UTF-8 at byte {error.start}") from None
    return text.removesuffix("\n").removesuffix("\r")


def _typed() -> Iterator[str]:
    """Ask for prompts on the terminal, until an empty one or the end of input."""
    import contextlib

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - lets one edit the line
    question = "How does the story begin? (an empty line ends) "
    while True:
        try:
            if sys.stdout.isatty():
                prompt = input(question)
            else:
                print(question, end="", file=sys.stderr, flush=True)
                prompt = input()
        except EOFError:
            print(file=sys.stderr)
            return
        if not prompt:
            return
        yield prompt


def _write(model: "Model", prompt: str, sampling: "Sampling", options: argparse.Namespace) -> None:
    """Draw the stories of a prompt and write them in order, the first ones piece by piece as they are drawn."""
    from tinystories.api.sampling import seeds_from
    from tinystories.api.text import show

    on_terminal = sys.stdout.isatty()
    steps = model.draw(prompt, seeds_from(options.seed, options.n), length=options.length, sampling=sampling)
    for story, piece in _in_order(steps):
        if options.json:
            if story.finished:
                keys = ("prompt", "text", "seed", "tokens", "ended")
                print(json.dumps({key: getattr(story, key) for key in keys}), flush=True)
            continue
        sys.stdout.write(show(piece) if on_terminal else piece)
        if story.finished:
            sys.stdout.write(f"\n{END_OF_TEXT}\n" if options.n > 1 else "\n")
        sys.stdout.flush()
        if story.finished and on_terminal and sys.stderr.isatty():
            how = "ended" if story.ended else "cut"
            print(f"(seed {story.seed}, {plural(story.tokens, 'token')}, {how})", file=sys.stderr)


def _in_order(steps: "Iterator[list[Story]]") -> "Iterator[tuple[Story, str]]":
    """Yield one story after another in pieces, its prompt first: with the last piece of each, it is finished."""
    number, shown = 0, -1  # of the story, and the characters of its text that were yielded; -1: not even its prompt
    for stories in steps:
        while number < len(stories):
            story = stories[number]
            yield story, story.text[shown:] if shown >= 0 else story.prompt + story.text
            shown = len(story.text)
            if not story.finished:
                break
            number, shown = number + 1, -1
