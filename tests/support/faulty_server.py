"""A faulty Hugging Face Hub: each answer is one of the functions here. And downloads that point to it."""

import hashlib
import re
import threading
import time
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http

from tinystories.common.errors import UserError
from tinystories.sources import hub
from tinystories.sources.hub import fetch, part_file

DATA = bytes(range(256)) * 400
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = DATA[::-1]
WHOLE: Any = {"size": len(DATA), "sha256": SHA256}


class Handler(BaseHTTPRequestHandler):
    """Give the server's next answer, and proper ones once they are used up."""

    server: "Server"

    def do_GET(self):
        self.server.requests.append(self.headers)
        self.answer(self.server.answers)

    def do_HEAD(self):
        self.server.heads.append(self.headers)
        self.answer(self.server.head_answers)

    def answer(self, answers):
        answer = answers.pop(0) if answers else self.server.always
        try:
            answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def head(self, status=200, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """`answers` are those to GET, `head_answers` those to HEAD, which is asked first; `always` comes after both."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Message] = []
        self.heads: list[Message] = []
        self.answers: list[Callable[[Handler], None]] = []
        self.head_answers: list[Callable[[Handler], None]] = []
        self.always: Callable[[Handler], None] = good
        self.data, self.etag = DATA, '"one"'
        self.files: dict[str, bytes] = {}  # by the last part of their path; others are `data`
        self.over = threading.Event()
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        path = "datasets/o/n/resolve/main/stories.txt?token=secret"
        self.url = f"http://user:secret@127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """A client that hangs up is no error of the test."""

    def ranges(self):
        return [headers.get("Range") for headers in self.requests]


def use_hub(endpoint: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what HF_ENDPOINT and HF_HUB_CACHE set on import, and let the library wait only shortly."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)  # else it asks for more than the file
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    monkeypatch.setattr(hub, "STALL_TIMEOUT", 20.0)
    monkeypatch.setattr(hub, "RETRY_SECONDS", 0.001)
    monkeypatch.setattr(hub, "POLL_SECONDS", 0.01)
    for module in (file_download, _http):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=lambda seconds: time.sleep(min(seconds, 0.01))))
    monkeypatch.setenv("NO_PROXY", "*")
    close_session()  # it holds the proxies of the environment


def good(handler, until=None, headers=()):
    """Answer as the Hub; `until` cuts the connection at that byte of the file."""
    data, start, status = handler.server.files.get(handler.path.rpartition("/")[2], handler.server.data), 0, 200
    headers = {"ETag": handler.server.etag, "X_Repo_Commit": "f" * 40, "Content_Type": "text/plain", **dict(headers)}
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if found:
        start, status = int(found[1]), 206
        headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.head(status, Content_Length=len(data) - start, **headers)
    if handler.command == "GET":
        handler.wfile.write(data[start:until])


def endless(handler):
    handler.head(Content_Type="text/plain")
    while True:
        handler.wfile.write(handler.server.data)


def cut(byte):
    return lambda handler: good(handler, until=byte)


def no_ranges(handler, until=None):
    handler.head(Content_Length=len(handler.server.data))
    handler.wfile.write(handler.server.data[:until])


def status(code, **headers):
    return lambda handler: handler.head(code, Content_Length=0, **headers)


def body(data, **headers):
    def answer(handler):
        handler.head(Content_Length=len(data), **headers)
        if handler.command == "GET":
            handler.wfile.write(data)

    return answer


def chunked(handler, until=None):
    """Answer without a length; the end is a chunk of no bytes."""
    handler.protocol_version = "HTTP/1.1"
    handler.head(Transfer_Encoding="chunked", Connection="close")
    for start in range(0, len(DATA[:until]), 10_000):
        piece = DATA[start : start + 10_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    if until is None:
        handler.wfile.write(b"0\r\n\r\n")


def stall(handler, until=20_000):
    good(handler, until)
    handler.server.over.wait(20)


def silence(handler):
    handler.server.over.wait(20)


def hang_up(handler):
    handler.close_connection = True


def problem(url, target, host="127.0.0.1"):
    """Return the message of a failing download: one line that names the host, and no password anywhere."""
    with pytest.raises(UserError) as error:
        fetch(url, target, **WHOLE)
    message = str(error.value)
    assert "\n" not in message and "secret" not in message and "user" not in message
    assert host in message
    assert not target.exists()
    return message


def put_part(target, data):
    target.parent.mkdir(parents=True)
    part_file(target).write_bytes(data)
