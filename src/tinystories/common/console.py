"""Messages and progress: a live progress bar on a terminal, a plain line every few seconds in a log."""

import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LOG_EVERY_SECONDS = 15.0
REDRAW_EVERY_SECONDS = 0.1

_console = Console(highlight=False, soft_wrap=True, emoji=False)  # a log keeps its lines whole


def info(message: str) -> None:
    """Print one line, or a table, above the progress bar if there is one."""
    _print("\n".join(map(escape_control, message.split("\n"))))


def warn(message: str) -> None:
    """Print one line that begins with `warning:`."""
    _print(f"warning: {escape_control(message)}", "yellow" if _console.is_terminal else None)


def _print(text: str, style: str | None = None) -> None:
    """Print: on a terminal with lines that break between words, but never within a path, an address or a table."""
    lines = text.split("\n")
    if _console.is_terminal:
        lines = [part for line in lines for part in _wrap(line, _console.width)]
    _console.print("\n".join(lines), style=style, markup=False)


def _wrap(line: str, width: int) -> list[str]:
    if len(line) <= width or line.startswith("|"):
        return [line]
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)


def escape_control(text: str) -> str:
    """Escape control characters: a server's message or a file's name cannot move the cursor or change colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 story`, `2,000 stories`, `0 documents`."""
    if count != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count:,} {noun}"


def format_duration(seconds: float) -> str:
    """Format seconds as `8 s`, `3:05` or `1:02:45`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class ProgressBar:
    """The progress of one task, with a detail that changes (`loss 3.21, 4,000 tokens/s`)."""

    def __init__(self, title: str, total: float | None, done: float, live: Progress | None) -> None:
        self._title, self._total, self._done, self._detail = escape_control(title), total, done, ""
        self._live = live
        self._task = live.add_task(self._title, total=total, completed=int(done), detail="") if live else None
        self._start = self._last_line = time.monotonic()
        self._first: tuple[float, float] | None = None  # time and progress of the first call of `advance`

    @property
    def seconds(self) -> float:
        """Time since the start; never 0, because rates are divided by it."""
        return max(time.monotonic() - self._start, 1e-9)

    def advance(self, amount: float, detail: str | None = None) -> None:
        """Advance by `amount`, in the unit of the total. `detail`: replaces the text after the bar."""
        self._done += amount
        if detail is not None:
            self._detail = detail
        now = time.monotonic()
        if self._first is None:
            self._first = now, self._done
        if now - self._last_line < (LOG_EVERY_SECONDS if self._live is None else REDRAW_EVERY_SECONDS):
            return
        self._last_line = now
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=self._done, detail=self._detail)
        else:
            info(self._line())

    def _line(self) -> str:
        parts = [self._title]
        if self._total:
            parts.append(f"{min(self._done / self._total, 1):.0%}")
            # The first call is left out: a training compiles in its first step.
            start, done = self._first or (0.0, self._done)
            if self._done > done:
                left = (self._total - self._done) * (time.monotonic() - start) / (self._done - done)
                parts.append(f"{format_duration(max(left, 0))} left")
        if self._detail:
            parts.append(self._detail)
        return ", ".join(parts)


@contextmanager
def progress(title: str, total: float | None = None, done: float = 0) -> Iterator[ProgressBar]:
    """Show the progress of the block. `total`, `done`: in one unit, such as bytes or steps."""
    if not _console.is_terminal:
        yield ProgressBar(title, total, done, None)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=_console, transient=True) as live:
        yield ProgressBar(title, total, done, live)
        sys.stdout.flush()
