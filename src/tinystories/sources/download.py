"""Download one large file over an unreliable network: resumed where it stopped, checked before it appears.

The rest of the program uses only `fetch`, `part_file` and `public_url`.
"""

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

STALL_TIMEOUT = 25.0  # seconds without a new byte after which to give up
CONNECT_TIMEOUT = 5.0  # seconds for each address of a host
READ_TIMEOUT = 10.0  # seconds for the next bytes
INITIAL_BACKOFF = 0.5  # seconds before the first retry; doubled for each further one
MAX_BACKOFF = 10.0  # seconds, also where the server asks for more
CHUNK_BYTES = 1 << 18
MAX_UNSIZED_BYTES = 10**10  # of a file without a Content-Length; at most half of the free disk space, too

_RETRYABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}

# Messages by the exceptions among an error's causes: the libraries' own messages show the password.
# True where a retry would change nothing.
_ERRORS: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
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

    A partial download stays in `.state/downloads/`, and the next call for the same URL resumes it.
    Errors: UserError, naming the URL without user, password and query.
    """
    shown = public_url(url)
    part = part_file(url)
    part.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(part.with_suffix(".lock"), "Another process is downloading this file; waiting for it"):
        for last_try in (False, True):
            try:
                _Download(url, shown, part, size, sha256).run()
                break
            except _ContentMismatch:
                part.unlink(missing_ok=True)
                if last_try:
                    raise
        _move(part, target)
        part.with_suffix(".json").unlink(missing_ok=True)


def part_file(url: str) -> Path:
    """Where a partial download is kept."""
    return state_directory() / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.part"


def public_url(url: str) -> str:
    """Remove user, password, query and fragment from a URL. Errors: UserError where it is no http(s) URL."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        pass
    # No part of it is shown: any may be the password.
    raise UserError("the URL cannot be understood; it should be http://host/path or https://host/path")


class _ContentMismatch(UserError):
    """The whole file arrived, but not the expected one."""


class _RetryableError(Exception):
    """A retry may succeed. `wait`: seconds that the server asked for."""

    def __init__(self, problem: str, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


class _RetryPolicy:
    """Exponential backoff, and a timeout without progress. Every new byte resets both."""

    def __init__(self, shown: str, bar: ProgressBar, position: int) -> None:
        self._shown, self._bar, self._position = shown, bar, position
        self._furthest, self._progress_at, self._backoff = 0, time.monotonic(), INITIAL_BACKOFF

    def reached(self, position: int) -> None:
        """Note that the file is there up to `position`, which may be less than before."""
        self._bar.advance(position - self._position, f"{position / 1e6:,.1f} MB")
        self._position = position
        if position > self._furthest:
            self._furthest, self._progress_at, self._backoff = position, time.monotonic(), INITIAL_BACKOFF

    def remaining(self) -> float:
        """Seconds until the timeout."""
        return STALL_TIMEOUT - (time.monotonic() - self._progress_at)

    def sleep(self, problem: _RetryableError) -> None:
        """Wait before a retry. Errors: UserError after the timeout."""
        if self.remaining() <= 0:
            kept = "; what has arrived is kept, and the next run goes on from there" if self._furthest else ""
            raise UserError(f"{self._shown}: {problem}; gave up after {STALL_TIMEOUT:g} s without progress{kept}")
        time.sleep(max(min(self._backoff if problem.wait is None else problem.wait, MAX_BACKOFF, self.remaining()), 0))
        self._backoff *= 2


@dataclass
class _Download:
    """The download of `url` into `part`."""

    url: str
    shown: str  # in messages
    part: Path
    size: int | None
    sha256: str | None

    def run(self) -> None:
        """Retry until `part` is whole, and check it. Errors: UserError; _ContentMismatch for another file."""
        name = unquote(urlsplit(self.url).path.rpartition("/")[2]) or self.shown
        with progress(f"Downloading {name}", total=self.size, done=self._have()) as bar:
            policy = _RetryPolicy(self.shown, bar, self._have())
            while not (self.sha256 and self._have() == self.size):
                try:
                    self._attempt(policy)
                    break
                except _RetryableError as problem:
                    policy.sleep(problem)
                except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                    policy.sleep(self._explain(error))
        if self.sha256 and (found := sha256_of(self.part)) != self.sha256:
            raise _ContentMismatch(f"{self.shown}: found another file, of sha256 {found}; expected {self.sha256}")

    def _attempt(self, policy: _RetryPolicy) -> None:
        have = self._have()
        metadata = self._metadata() if have else {}
        headers: dict[str, str | None] = {"Accept-Encoding": "identity"}  # a compressed transfer could not be resumed
        if have and (self.sha256 or metadata.get("validator")):  # else a changed file would go unnoticed
            headers |= {"Range": f"bytes={have}-", "If-Range": metadata.get("validator")}
        with _get(self.url, headers, max(policy.remaining(), 1.0)) as response:
            position, total = self._check(response, have if "Range" in headers else 0, metadata)
            max_size = self._max_size(total)
            validator = _validator(response) or (metadata.get("validator") if position else None)
            with with_filename(self.part), self.part.open("ab" if position else "wb") as file:
                write_json(self.part.with_suffix(".json"), {"validator": validator, "size": total})
                policy.reached(position)
                while position < max_size and (chunk := response.raw.read1(CHUNK_BYTES)):
                    position += len(chunk)
                    file.write(chunk)
                    policy.reached(position)
                file.flush()
                os.fsync(file.fileno())
        if total is None and position >= max_size:
            self.part.unlink()
            raise UserError(f"{self.shown}: no end after {position:,} bytes, and no length told; expected a text file")
        if total is not None and position > total:
            raise _ContentMismatch(f"{self.shown}: found more than {total:,} bytes, expected just these")
        if total is not None and position < total:
            raise _RetryableError(f"the connection was cut at byte {position:,} of {total:,}")

    def _check(self, response: requests.Response, have: int, metadata: dict[str, Any]) -> tuple[int, int | None]:
        """Check the headers. Returns the offset at which the body begins, and the whole file's size where known."""
        status = response.status_code
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        range_ = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        start, total = (_parse_int(range_[1]), _parse_int(range_[2])) if range_ else (None, None)
        if status in _RETRYABLE_STATUS:
            wait = _retry_after(response)
            asked = f" and asks to wait {wait:.0f} s" if wait is not None else ""
            raise _RetryableError(f"the server answers {status} {response.reason}{asked}", wait)
        if status == 416 and have:
            if total == have and self.size in (None, have):
                return have, have
            self.part.unlink()
            raise _RetryableError("the server answers 416, that there is nothing to go on with")
        if status == 206:
            same_version = _validator(response) in (None, metadata.get("validator")) or not metadata.get("validator")
            if start != have or not same_version or total not in (None, metadata.get("size") or total):
                self.part.unlink(missing_ok=True)
                raise _RetryableError("the server goes on with another file")
        elif status == 200:
            start, total = 0, _parse_int(response.headers.get("Content-Length"))
        else:
            raise UserError(f"{self.shown}: the server answers {status} {response.reason}; expected the file")
        if self.sha256 is None and kind == "text/html":
            raise UserError(f"{self.shown}: found an HTML page; expected a text file")
        if (coding := response.headers.get("Content-Encoding", "identity")) != "identity":
            raise UserError(f"{self.shown}: the server sends it compressed ({coding}); expected plain text")
        if self.size is not None and total not in (None, self.size):
            raise _RetryableError(f"found {total:,} bytes ({kind or 'of no type'}), expected {self.size:,} bytes")
        return start or 0, total if total is not None else self.size

    def _max_size(self, total: int | None) -> int:
        """The largest size that is accepted. Errors: OSError where the disk has no room for the whole file."""
        room = shutil.disk_usage(self.part.parent).free + self._have()
        if (total or 0) > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.part))
        return min(MAX_UNSIZED_BYTES, room // 2) if total is None else total

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _metadata(self) -> dict[str, Any]:
        """Read what an earlier attempt learned of the file that `part` is the beginning of."""
        try:
            return read_json(self.part.with_suffix(".json"))
        except UserError:
            return {}

    def _explain(self, error: Exception) -> _RetryableError:
        """Translate a library's error. Errors: UserError where a retry would change nothing."""
        causes: list[BaseException] = [error]
        while cause := causes[-1].__cause__ or causes[-1].__context__:
            causes.append(cause)
        message, final = next(row[1:] for row in _ERRORS if any(isinstance(cause, row[0]) for cause in causes))
        if final:
            raise UserError(f"{self.shown}: {message}")
        return _RetryableError(message)


def _get(url: str, headers: dict[str, str | None], seconds: float) -> requests.Response:
    """Send a GET request and read the response's headers. Errors: requests.RequestException, also after `seconds`.

    It runs in a thread, because a name lookup, or trying each address of a host, has no common deadline.
    """
    result: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()

    def get() -> None:
        try:
            timeout = (min(CONNECT_TIMEOUT, seconds), min(READ_TIMEOUT, seconds))
            result.put(requests.get(url, headers=headers, stream=True, timeout=timeout))
        except Exception as error:
            result.put(error)

    threading.Thread(target=get, daemon=True).start()
    try:
        found = result.get(timeout=seconds + 0.5)
    except queue.Empty:
        raise requests.Timeout from None
    if isinstance(found, Exception):
        raise found
    return found


def _validator(response: requests.Response) -> str | None:
    """The validator of this version of the file: a strong ETag, else Last-Modified."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(response: requests.Response) -> float | None:
    """Parse Retry-After, a number of seconds or a date, into seconds."""
    text = response.headers.get("Retry-After", "").strip()
    if (seconds := _parse_int(text)) is not None:
        return float(seconds)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return None


def _parse_int(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _move(part: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        part.replace(target)
    except OSError:  # another file system
        copy_file(part, target)
        part.unlink()
