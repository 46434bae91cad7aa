"""One large file of the Hugging Face Hub over an unreliable network: resumed where it stopped, checked at the end.

`huggingface_hub` does the transfer, with the user's HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and proxies. Its
`hf_hub_download` throws away what has arrived when it ends early, and a name lookup, a busy server or a wrong page can
hold it for minutes. So this calls what that function is made of, into a file that stays.
"""

import os
import queue
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, is_offline_mode, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, silent_tqdm
from huggingface_hub.utils import logging as hub_logging

from tinystories.common.console import ProgressBar, progress
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of, with_filename
from tinystories.common.urls import redact, shown_address

STALL_TIMEOUT = 25.0  # seconds without a new byte after which to give up; HF_HUB_DOWNLOAD_TIMEOUT may be longer
RETRY_SECONDS = 1.0  # between two attempts; the library makes several in each
POLL_SECONDS = 0.1

# The library hands over 10 MiB at a time: less would count as nothing on a slow line, and be lost at a cut.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 16

_RETRYABLE_STATUS = {408, 425, 429, 500, 502, 503, 504}
_NO_ANSWER = "the server does not answer"
# Messages by the exceptions among an error's causes: the libraries' own may show a password.
# True where a retry would change nothing.
_ERRORS: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    ((ssl.SSLCertVerificationError,), "the host's certificate is not trusted (TLS; SSL_CERT_FILE adds one)", True),
    ((httpx2.TooManyRedirects,), "the server redirects in a loop", True),
    (
        (httpx2.InvalidURL, httpx2.UnsupportedProtocol),
        "this, or what it redirects to, is no http(s) URL; HF_ENDPOINT should be https://HOST",
        True,
    ),
    ((httpx2.ProxyError,), "the proxy does not connect", False),
    ((socket.gaierror,), "the host's name is not found; is there a network?", False),
    ((ConnectionRefusedError,), "the connection is refused", False),
    ((ssl.SSLError,), "no TLS (https) connection comes about", False),
    ((TimeoutError, httpx2.TimeoutException), _NO_ANSWER, False),
    ((httpx2.HTTPError,), "the connection broke", False),
)


def find_cached(repo: str, revision: str, name: str) -> Path | None:
    """Find a file of a data set in the user's Hugging Face cache, without a network."""
    found = try_to_load_from_cache(repo, name, revision=revision, repo_type="dataset")
    return Path(found).resolve() if isinstance(found, str) else None


def part_file(target: Path) -> Path:
    """Where the download of `target` is kept until it is whole."""
    return target.with_name(f"{target.name}.part")


def fetch(url: str, target: Path, *, size: int, sha256: str) -> None:
    """Download `url` to `target`, which appears only when it is whole: `size` bytes with that `sha256`.

    What has arrived stays in `part_file(target)`, and the next call goes on there. Wrong bytes are tried once more.
    Errors: UserError, naming the URL without user, password and query; OSError where the disk is full.
    """
    shown, part = shown_address(url), part_file(target)
    if is_offline_mode():
        raise UserError(f"HF_HUB_OFFLINE is set, and {target.name} is not in the cache {constants.HF_HUB_CACHE}")
    part.parent.mkdir(parents=True, exist_ok=True)
    for _ in range(2):
        if part.exists() and part.stat().st_size > size:
            part.unlink()
        with with_filename(part), part.open("ab") as file:
            if file.tell() < size:
                _transfer(url, shown, file, size)
            os.fsync(file.fileno())
        found = sha256_of(part)
        if found == sha256:
            part.replace(target)
            return
        part.unlink()
    raise UserError(f"{shown}: found another file, of sha256 {found}; expected {sha256}")


def _transfer(url: str, shown: str, file: IO[bytes], size: int) -> None:
    """Append what is missing to `file`. Errors: as of `fetch`."""
    if hub_logging.get_verbosity() == hub_logging.WARNING:  # the default; its lines show the password of an endpoint
        hub_logging.set_verbosity_error()
    have = file.tell()
    attempts = _Attempts(url, _Part(file, have, size))
    threading.Thread(target=attempts.run, name="download", daemon=True).start()
    name = unquote(urlsplit(url).path.rpartition("/")[2])
    with progress(f"Downloading {name}", total=size, done=have) as bar:
        _watch(attempts, shown, bar)


def _watch(attempts: "_Attempts", shown: str, bar: ProgressBar) -> None:
    """Wait for the thread, as long as bytes arrive. Errors: as of `fetch`."""
    patience = max(STALL_TIMEOUT, constants.HF_HUB_DOWNLOAD_TIMEOUT)
    before = furthest = attempts.part.position
    since = time.monotonic()
    while True:
        try:
            error = attempts.ended.get(timeout=POLL_SECONDS)
        except queue.Empty:
            pass
        else:
            if isinstance(error, UserError):
                raise UserError(f"{shown}: {error}")
            if error is not None:
                raise error
            return
        position = attempts.part.position
        bar.advance(position - before, f"{position / 1e6:,.1f} MB")
        before = position
        if position > furthest:
            furthest, since = position, time.monotonic()
        elif time.monotonic() - since > patience:
            kept = "; what has arrived is kept, and the next run goes on from there" if position else ""
            raise UserError(f"{shown}: {attempts.problem}; gave up after {patience:g} s without progress{kept}")


class _Part:
    """The file that the library writes to, by these methods. It never grows beyond `size`."""

    def __init__(self, file: IO[bytes], position: int, size: int) -> None:
        self._file, self.position, self.size = file, position, size
        self.sure = position  # bytes of attempts before this one

    @property
    def closed(self) -> bool:
        """Whether nobody waits for the file any more."""
        return self._file.closed

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        self._file.seek(position)
        self.position = position

    def truncate(self) -> None:
        """The library begins again: the server knows no ranges."""
        self._file.truncate(self.position)
        self.sure = self.position

    def write(self, chunk: bytes) -> None:
        if self.position + len(chunk) > self.size:
            self.undo()
            raise UserError(f"found more than {self.size:,} bytes; expected just these")
        self._file.write(chunk)
        self._file.flush()  # a full disk shows here, and a killed process loses nothing
        self.position += len(chunk)

    def undo(self) -> None:
        """Drop what this attempt has written."""
        self.seek(self.sure)
        self._file.truncate(self.position)


class _Attempts:
    """Attempts until the file is whole, in a thread: a name lookup, or the library's waits, have no deadline."""

    def __init__(self, url: str, part: _Part) -> None:
        self.url, self.part = url, part
        self.problem = _NO_ANSWER
        self.ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Put None into `ended`, or the error after which a further attempt would be useless."""
        try:
            while not self.part.closed and (problem := self._attempt()):
                self.problem = problem
                time.sleep(RETRY_SECONDS)
            self.ended.put(None)
        except BaseException as error:  # the other thread raises it
            self.ended.put(error)

    def _attempt(self) -> str | None:
        """Make one attempt. Returns what went wrong, None where the file is whole. Errors: UserError, OSError."""
        size, part = self.part.size, self.part
        part.sure = part.position
        try:
            found = get_hf_file_metadata(self.url, timeout=constants.HF_HUB_ETAG_TIMEOUT).size
            if found not in (None, size):  # a page of the network's owner, say: what is there is better
                return f"found {found:,} bytes, expected {size:,} bytes"
            self.problem = _NO_ANSWER
            headers = build_hf_headers() | {"Accept-Encoding": "identity"}  # compressed, it could not be resumed
            http_get(
                self.url,
                part,
                resume_size=part.position,
                headers=headers,
                expected_size=size,
                tqdm_class=silent_tqdm,
            )
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            by_proxy = isinstance(
                error, (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError)
            ) and _has_proxy(self.url)
            return _explain(error) + (" (by the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names)" * by_proxy)
        except OSError as error:
            if error.errno is not None:
                raise
            arrived = part.position
            part.undo()  # the answer was whole, but not this file
            return f"found {arrived:,} bytes, expected {size:,} bytes"
        except (ImportError, ValueError) as error:  # of a proxy's address, or of a server's headers
            raise UserError(f"huggingface_hub says: {redact(str(error))}".partition("\n")[0]) from None
        return None


def _has_proxy(url: str) -> bool:
    parts, proxies = urlsplit(url), getproxies()
    return (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or "")


def _explain(error: Exception) -> str:
    """Translate a library's error. Errors: UserError where a retry would change nothing."""
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        message = f"the server answers {status} {error.response.reason_phrase}".rstrip()
        if status in _RETRYABLE_STATUS:
            return message
        token = "; is your token right (HF_TOKEN, `hf auth whoami`)?" if status in (401, 403) else ""
        raise UserError(f"{message}; expected the file{token}")
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    message, final = next(row[1:] for row in _ERRORS if any(isinstance(cause, row[0]) for cause in causes))
    if final:
        raise UserError(message)
    return message
