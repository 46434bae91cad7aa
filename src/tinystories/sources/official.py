"""Downloading one large file over a network that breaks: resumed where it stopped, checked before it appears."""

import errno
import hashlib
import os
import queue
import re
import shutil
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
import urllib3
from requests.exceptions import InvalidSchema, InvalidURL, MissingSchema, ProxyError

from tinystories.common.console import ProgressBar, progress
from tinystories.common.errors import UserError
from tinystories.common.files import copy_file, file_lock, sha256_of, with_filename, write_json
from tinystories.common.paths import state_directory
from tinystories.common.reading import read_json

PATIENCE = 25.0  # seconds without a new byte after which to give up
CONNECT_TIMEOUT = 5.0  # seconds for each address of a host
READ_TIMEOUT = 10.0  # seconds for the next bytes
FIRST_WAIT = 0.5  # seconds before the second try; doubled for each further one
LONGEST_WAIT = 10.0  # seconds, also where the server asks for more
CHUNK = 1 << 18  # bytes
LARGEST_UNTOLD = 10**10  # bytes of a file whose length nobody tells; at most half of the room on the disk, too

_BUSY = {408, 425, 429, 500, 502, 503, 504}  # answers that another try may change

# What went wrong, by the exceptions among an error's causes, in our words (the libraries' own show the password);
# True where another try would change nothing.
_PROBLEMS: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    ((ssl.SSLCertVerificationError,), "the host's certificate is not trusted (TLS)", True),
    ((requests.TooManyRedirects,), "the server redirects in a loop", True),
    ((InvalidURL, InvalidSchema, MissingSchema), "this, or what it redirects to, is no http(s) URL", True),
    ((ProxyError,), "the proxy (HTTP_PROXY, HTTPS_PROXY) does not connect", False),
    ((socket.gaierror,), "the host's name is not found; is there a network?", False),
    ((ConnectionRefusedError,), "the connection is refused", False),
    ((ssl.SSLError,), "no TLS (https) connection comes about", False),
    ((TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError), "the server does not answer", False),
    ((Exception,), "the connection broke", False),
)


def fetch(url: str, target: Path, *, size: int | None = None, sha256: str | None = None) -> None:
    """Download `url` to `target`, which appears only when it is whole: `size` bytes with that `sha256`, where known.

    The bytes gather in `.state/downloads/`, which outlives the process: the next call for the same URL goes on there.
    Errors: UserError, naming the URL without user, password and query.
    """
    shown(url)  # checks it
    part = part_file(url)
    part.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(part.with_suffix(".lock"), "Another process is downloading this file; waiting for it"):
        for last_try in (False, True):
            try:
                _Download(url, part, size, sha256).run()
                break
            except _WrongContent:
                part.unlink(missing_ok=True)
                if last_try:
                    raise
        _move(part, target)
        part.with_suffix(".json").unlink(missing_ok=True)


def part_file(url: str) -> Path:
    """Where the bytes of an unfinished download gather."""
    return state_directory() / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"


def shown(url: str) -> str:
    """The URL as it may be shown and kept: without user, password, query and fragment.

    Errors: UserError where it is none that can be fetched.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        pass
    # No word of it is shown: where its parts cannot be told apart, any may be the password.
    raise UserError("the URL cannot be understood; it should be http://host/path or https://host/path")


class _WrongContent(UserError):
    """Bytes came whole, but not the ones expected."""


class _TryAgain(Exception):
    """This try failed in a way in which another may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class _Patience:
    """How long to go on: the clock and the growing waits start anew with every byte that is new."""

    def __init__(self, url: str, bar: ProgressBar, position: int) -> None:
        self._url, self._bar, self._position = url, bar, position
        self._furthest, self._since, self._wait = 0, time.monotonic(), FIRST_WAIT

    def reached(self, position: int) -> None:
        """The file is there up to `position`, which may be less than before."""
        self._bar.advance(position - self._position, f"{position / 1e6:,.1f} MB")
        self._position = position
        if position > self._furthest:
            self._furthest, self._since, self._wait = position, time.monotonic(), FIRST_WAIT

    def left(self) -> float:
        return PATIENCE - (time.monotonic() - self._since)

    def sleep(self, problem: _TryAgain) -> None:
        """Wait before the next try. Errors: UserError when patience is over."""
        if self.left() <= 0:
            kept = "; what has arrived is kept, and the next run goes on from there" if self._furthest else ""
            raise UserError(f"{shown(self._url)}: {problem}; gave up after {PATIENCE:g} s without progress{kept}")
        time.sleep(max(min(self._wait if problem.wait is None else problem.wait, LONGEST_WAIT, self.left()), 0))
        self._wait *= 2


@dataclass
class _Download:
    """One file on its way from `url` into `part`."""

    url: str
    part: Path
    size: int | None
    sha256: str | None

    def run(self) -> None:
        """Try until `part` is whole, and check it. Errors: UserError; _WrongContent where it is another file."""
        name = unquote(urlsplit(self.url).path.rpartition("/")[2]) or shown(self.url)
        with progress(f"Downloading {name}", total=self.size, done=self._have()) as bar:
            patience = _Patience(self.url, bar, self._have())
            while not (self.sha256 and self._have() == self.size):
                try:
                    self._try(patience)
                    break
                except _TryAgain as problem:
                    patience.sleep(problem)
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    patience.sleep(self._explain(error))
        if self.sha256 and (found := sha256_of(self.part)) != self.sha256:
            raise _WrongContent(f"{shown(self.url)}: found another file, of sha256 {found}; expected {self.sha256}")

    def _try(self, patience: _Patience) -> None:
        have = self._have()
        side = self._side() if have else {}
        headers: dict[str, str | None] = {"Accept-Encoding": "identity"}  # a compressed stream could not be resumed
        if have and (self.sha256 or side.get("validator")):  # else nothing would tell that the file has changed
            headers |= {"Range": f"bytes={have}-", "If-Range": side.get("validator")}
        with _ask(self.url, headers, max(patience.left(), 1.0)) as response:
            position, total = self._check(response, have if "Range" in headers else 0, side)
            end = self._end(total)
            validator = _validator(response) or (side.get("validator") if position else None)
            with with_filename(self.part), self.part.open("ab" if position else "wb") as file:
                write_json(self.part.with_suffix(".json"), {"validator": validator, "size": total})
                patience.reached(position)
                while position < end and (chunk := response.raw.read1(CHUNK)):
                    position += len(chunk)
                    file.write(chunk)
                    patience.reached(position)
                file.flush()
                os.fsync(file.fileno())
        if total is None and position >= end:
            self.part.unlink()
            raise UserError(
                f"{shown(self.url)}: no end after {position:,} bytes, and no length told; expected a text file"
            )
        if total is not None and position > total:
            raise _WrongContent(f"{shown(self.url)}: found more than {total:,} bytes, expected just these")
        if total is not None and position < total:
            raise _TryAgain(f"the connection was cut at byte {position:,} of {total:,}")

    def _check(self, response: requests.Response, have: int, side: dict[str, Any]) -> tuple[int, int | None]:
        """Where the answer's bytes begin, and the size of the whole file where anybody knows it."""
        status = response.status_code
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        range_ = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        start, total = (_number(range_[1]), _number(range_[2])) if range_ else (None, None)
        if status in _BUSY:
            wait = _retry_after(response)
            asked = f" and asks to wait {wait:.0f} s" if wait is not None else ""
            raise _TryAgain(f"the server answers {status} {response.reason}{asked}", wait)
        if status == 416 and have:
            if total == have and self.size in (None, have):
                return have, have
            self.part.unlink()
            raise _TryAgain("the server answers 416, that there is nothing to go on with")
        if status == 206:
            same_version = _validator(response) in (None, side.get("validator")) or not side.get("validator")
            if start != have or not same_version or total not in (None, side.get("size") or total):
                self.part.unlink(missing_ok=True)
                raise _TryAgain("the server goes on with another file")
        elif status == 200:
            start, total = 0, _number(response.headers.get("Content-Length"))
        else:
            raise UserError(f"{shown(self.url)}: the server answers {status} {response.reason}; expected the file")
        if self.sha256 is None and kind == "text/html":
            raise UserError(f"{shown(self.url)}: found an HTML page; expected a text file")
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise UserError(f"{shown(self.url)}: the server sends it compressed ({coding}); expected plain text")
        if self.size is not None and total not in (None, self.size):
            raise _TryAgain(f"found {total:,} bytes ({kind or 'of no type'}), expected {self.size:,} bytes")
        return start or 0, total if total is not None else self.size

    def _end(self, total: int | None) -> int:
        """The byte up to which the file may grow. Errors: OSError where the disk has no room for all of it."""
        room = shutil.disk_usage(self.part.parent).free + self._have()
        if (total or 0) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.part))
        return min(LARGEST_UNTOLD, room // 2) if total is None else total

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _side(self) -> dict[str, Any]:
        """What is known of the file that `part` is the beginning of."""
        try:
            return read_json(self.part.with_suffix(".json"))
        except UserError:
            return {}

    def _explain(self, error: Exception) -> _TryAgain:
        """The problem in our words. Errors: UserError where another try would change nothing."""
        causes: list[BaseException] = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        words, final = next(row[1:] for row in _PROBLEMS if any(isinstance(cause, row[0]) for cause in causes))
        if final:
            raise UserError(f"{shown(self.url)}: {words}")
        return _TryAgain(words)


def _ask(url: str, headers: dict[str, str | None], seconds: float) -> requests.Response:
    """The answer to a GET request, its headers read. Errors: requests.RequestException, also after `seconds`.

    In a thread, for looking a name up, or trying each of a host's many addresses, knows no common deadline.
    """
    answer: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            timeout = (min(CONNECT_TIMEOUT, seconds), min(READ_TIMEOUT, seconds))
            answer.put(requests.get(url, headers=headers, stream=True, timeout=timeout))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=seconds + 0.5)
    except queue.Empty:
        raise requests.Timeout from None
    if isinstance(found, Exception):
        raise found
    return found


def _validator(response: requests.Response) -> str | None:
    """What tells this version of the file from others: a strong ETag, else the date of its last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the server asks to wait: it gives a number of them, or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if (seconds := _number(text)) is not None:
        return float(seconds)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _move(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.replace(target)
    except OSError:  # another file system
        copy_file(part, target)
        part.unlink()
