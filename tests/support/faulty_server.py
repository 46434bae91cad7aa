"""A faulty file server: each answer is one of the functions here."""

import hashlib
import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tinystories.common.errors import UserError
from tinystories.sources.download import fetch, part_file

DATA = bytes(range(256)) * 400
SHA256 = hashlib.sha256(DATA).hexdigest()
OTHER = DATA[::-1]


class Handler(BaseHTTPRequestHandler):
    """Give the server's next answer, and proper ones once they are used up."""

    server: "Server"

    def do_GET(self):
        self.server.requests.append(dict(self.headers))
        answer = self.server.answers.pop(0) if self.server.answers else good
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
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[dict[str, str]] = []
        self.answers: list[Callable[[Handler], None]] = []
        self.data, self.etag = DATA, '"one"'
        self.over = threading.Event()
        self.url = f"http://user:secret@127.0.0.1:{self.server_port}/stories.txt?token=secret"

    def ranges(self):
        return [headers.get("Range") for headers in self.requests]


def good(handler, until=None, if_range=True, headers=()):
    """Answer as a proper server; `until` cuts the connection at that byte of the file."""
    data, etag, start, status = handler.server.data, handler.server.etag, 0, 200
    headers = {"ETag": etag, "Content_Type": "text/plain", **dict(headers)}
    found = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
    if found and (not if_range or handler.headers.get("If-Range") in (None, etag)):
        start, status = int(found[1]), 206
        if start >= len(data):
            handler.head(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
    handler.head(status, Content_Length=len(data) - start, **headers)
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


def stall(handler):
    good(handler, until=20_000)
    handler.server.over.wait(20)


def silence(handler):
    handler.server.over.wait(20)


def hang_up(handler):
    handler.close_connection = True


def problem(url, target, host="127.0.0.1", **known):
    """Return the message of a failing download: one line that names the host, and no password anywhere."""
    with pytest.raises(UserError) as error:
        fetch(url, target, **known)
    message = str(error.value)
    assert "\n" not in message and "secret" not in message and "user" not in message
    assert host in message
    assert not target.parent.exists() or not any(target.parent.iterdir())
    for file in part_file(url).parent.iterdir():
        assert b"secret" not in file.read_bytes()
    return message


def left_over(url):
    return {file.suffix for file in part_file(url).parent.iterdir()} - {".lock"}


def put_part(url, data, **side):
    part_file(url).parent.mkdir(parents=True)
    part_file(url).write_bytes(data)
    if side:
        part_file(url).with_suffix(".json").write_text(json.dumps(side))
