"""Downloads from servers and over networks that misbehave."""

import errno
import hashlib
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.bad_server import (
    DATA,
    OTHER,
    SHA256,
    Server,
    body,
    chunked,
    cut,
    good,
    hang_up,
    no_ranges,
    silence,
    stall,
    status,
)
from tinystories import transfer
from tinystories.errors import UserError
from tinystories.transfer import fetch, part_file, shown


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    """Short waits, but patience enough for a busy machine; tests of giving up shorten it."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(transfer, "PATIENCE", 20.0)
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(transfer, "LONGEST_WAIT", 0.02)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(transfer, "PATIENCE", 0.3)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "data" / "stories.txt"


def problem(url, target, host="127.0.0.1", **known):
    """The message of a download that fails; it is one line that names the host, and no password anywhere."""
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


def test_a_file_arrives(server, target):
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.requests[0]["Authorization"].startswith("Basic ")
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert left_over(server.url) == set()


def test_a_download_goes_on_where_it_was_cut(server, target):
    tenths = [len(DATA) * tenth // 10 for tenth in range(10)]
    server.answers = [cut(byte) for byte in tenths]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None, *(f"bytes={byte}-" for byte in tenths[1:])]
    assert {headers["If-Range"] for headers in server.requests[2:]} == {'"one"'}


@pytest.mark.parametrize("known", [{}, {"size": len(DATA), "sha256": SHA256}])
def test_a_server_without_ranges_starts_over(server, target, known):
    server.answers = [cut(5000), no_ranges]
    fetch(server.url, target, **known)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-"]


def test_without_anything_to_tell_versions_apart_it_starts_over(server, target):
    server.answers = [lambda handler: no_ranges(handler, until=5000), no_ranges]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_a_weak_etag_tells_nothing_but_a_checksum_does(server, target):
    server.etag = 'W/"one"'
    server.answers = [cut(5000)]
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-"]
    assert "If-Range" not in server.requests[1]


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_not_mixed(server, target, if_range):
    def change(handler):
        server.data, server.etag = OTHER, '"two"'
        good(handler, if_range=if_range)

    server.answers = [cut(5000), change]
    fetch(server.url, target)
    assert target.read_bytes() == OTHER


def test_a_part_longer_than_the_file_is_dropped(server, target):
    put_part(server.url, DATA + b"more", validator='"one"', size=len(DATA))
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [f"bytes={len(DATA) + 4}-", None]


def test_a_part_that_is_whole_is_not_downloaded_again(server, target):
    put_part(server.url, DATA, validator='"one"', size=len(DATA))
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1  # answered 416: there is nothing more

    put_part_again = target.rename(part_file(server.url))
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1
    assert not put_part_again.exists()


def test_a_resumed_part_is_checked_too(server, target):
    put_part(server.url, OTHER[:5000], validator='"one"', size=len(DATA))
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == ["bytes=5000-", None]


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_given_the_time_it_asks_for(server, target, monkeypatch, code):
    waits: list[float] = []
    monkeypatch.setattr(transfer, "LONGEST_WAIT", 10.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=7), usegmt=True)
    asked = ["2", date, "3600", past, "soon", "9" * 30]
    server.answers = [status(code, Retry_After=value) for value in asked]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert waits[0] == 2 and 5 < waits[1] <= 7 and waits[2] == 10 and waits[3] == 0
    assert 0 < waits[4] < waits[5] < 0.1  # no time that could be understood: the usual waits


def test_waits_grow_and_start_anew_after_progress(server, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(transfer, "LONGEST_WAIT", 10.0)
    monkeypatch.setattr(transfer, "FIRST_WAIT", 0.5)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.answers = [status(500), status(502), hang_up, cut(10), status(504), hang_up]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert waits == [0.5, 1, 2, 0.5, 1, 2]


def test_a_server_that_stays_busy(server, target, impatient):
    server.answers = [status(429, Retry_After=3600)] * 1000
    assert "answers 429 Too Many Requests and asks to wait 3600 s; gave up after 0.3 s" in problem(server.url, target)


def test_a_stalled_download_is_taken_up_again(server, target, monkeypatch):
    monkeypatch.setattr(transfer, "READ_TIMEOUT", 1.0)
    server.answers = [stall]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=20000-"]


def test_a_download_that_stalls_for_good_keeps_what_has_arrived(server, target, impatient, monkeypatch):
    server.answers = [stall, *[silence] * 100]
    message = problem(server.url, target)
    assert "the server does not answer; gave up after 0.3 s without progress; what has arrived is kept" in message
    assert part_file(server.url).read_bytes() == DATA[:20_000]
    server.answers.clear()
    server.over.set()
    monkeypatch.setattr(transfer, "PATIENCE", 20.0)
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=20000-"


def test_a_wrong_length_is_refused_and_costs_nothing_that_has_arrived(server, target, impatient):
    put_part(server.url, DATA[:5000], validator='"one"', size=len(DATA))
    server.answers = [body(b"<html>Log in to the network", Content_Type="text/html; charset=utf-8")] * 1000
    message = problem(server.url, target, size=len(DATA), sha256=SHA256)
    assert "found 27 bytes (text/html), expected 102,400 bytes" in message
    assert part_file(server.url).read_bytes() == DATA[:5000]


def test_more_bytes_than_the_file_has(server, target):
    server.answers = [chunked, chunked]
    message = problem(server.url, target, size=len(DATA) - 5000, sha256=SHA256)
    assert "found more than 97,400 bytes" in message
    assert left_over(server.url) <= {".json"}


def test_wrong_bytes_are_fetched_once_more(server, target):
    server.answers = [body(OTHER)]
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_wrong_bytes_for_good_are_refused(server, target):
    server.data = OTHER
    message = problem(server.url, target, size=len(DATA), sha256=SHA256)
    assert hashlib.sha256(OTHER).hexdigest() in message and SHA256 in message
    assert len(server.requests) == 2
    assert left_over(server.url) <= {".json"}


def test_a_file_of_unknown_length(server, target):
    server.answers = [chunked]
    fetch(server.url, target)
    assert target.read_bytes() == DATA

    server.answers = [lambda handler: chunked(handler, until=50_000)]
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None, "bytes=50000-"]


def test_a_size_known_beforehand_shows_what_no_header_tells(server, target):
    def unsized(handler):
        handler.head(ETag='"one"')
        handler.wfile.write(DATA[:50_000])

    server.answers = [unsized]
    fetch(server.url, target, size=len(DATA))
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=50000-"]


def test_pages_and_compressed_files_are_refused(server, target):
    server.answers = [body(b"<html>Log in", Content_Type="text/html; charset=utf-8")]
    assert "found an HTML page; expected a text file" in problem(server.url, target)
    server.answers = [body(b"\x1f\x8b", Content_Encoding="gzip")]
    assert "sends it compressed (gzip)" in problem(server.url, target)


@pytest.mark.parametrize("code", [204, 304, 401, 403, 404, 410, 416])
def test_an_answer_that_time_does_not_change_is_final(server, target, code):
    server.answers = [status(code)]
    assert f"the server answers {code} " in problem(server.url, target)
    assert len(server.requests) == 1


def test_redirects(server, target):
    server.answers = [status(302, Location="/elsewhere.txt")]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    target.unlink()
    server.answers = [status(302, Location="/stories.txt?token=secret")] * 100
    assert "the server redirects in a loop" in problem(server.url, target)
    server.answers = [status(302, Location="ftp://user:secret@127.0.0.1/")]
    assert "redirects to, is no http(s) URL" in problem(server.url, target)


def test_no_tls_on_a_plain_port(server, target, impatient):
    assert "no TLS (https) connection" in problem(server.url.replace("http:", "https:"), target)


def test_an_untrusted_certificate_is_final(target, monkeypatch):
    def get(*args, **kwargs):
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except OSError as error:
            raise requests.exceptions.SSLError(error) from None

    monkeypatch.setattr(requests, "get", get)
    assert "certificate is not trusted" in problem("https://user:secret@127.0.0.1/a.txt", target)


def test_nobody_listens(target, impatient):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}/a.txt"
    assert "the connection is refused; gave up after 0.3 s without progress" in problem(url, target)


def test_no_such_host(target, impatient, monkeypatch):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    message = problem("https://user:secret@stories.invalid/a.txt", target, host="stories.invalid")
    assert "the host's name is not found; is there a network?" in message


def test_a_name_that_takes_for_ever_to_look_up(target, impatient, monkeypatch):
    over = threading.Event()

    def getaddrinfo(*args, **kwargs):
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    message = problem("https://user:secret@stories.invalid/a.txt", target, host="stories.invalid")
    over.set()
    assert "the server does not answer" in message


@pytest.mark.parametrize("seconds", [0.0, 3.0, 10.0, 60.0])
def test_without_a_network_it_gives_up_within_half_a_minute(target, monkeypatch, seconds):
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(target.parent))
    now = [0.0]

    def spend(amount):
        assert amount >= 0
        now[0] += amount

    def ask(url, headers, deadline):
        spend(min(seconds, deadline + 0.5))
        raise requests.ConnectionError

    monkeypatch.setattr(transfer, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=spend))
    monkeypatch.setattr(transfer, "_ask", ask)
    with pytest.raises(UserError, match=r"^http://example.invalid/a.txt: the connection broke; gave up after 25 s"):
        fetch("http://example.invalid/a.txt", target)
    assert 20 < now[0] < 30


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "ftp://user:secret@host/a",
        "http://user:sec/ret@secret",
        "http://[secret",
        "http://h:99999/secret",
    ],
)
def test_what_is_no_url(url, target):
    with pytest.raises(UserError, match=r"^the URL cannot be understood; it should be http") as error:
        fetch(url, target)
    assert "secret" not in str(error.value)


def test_what_is_shown_of_a_url():
    assert shown("HTTPS://me:pw@Host.org:8080/a%20b.txt?key=pw#pw") == "https://Host.org:8080/a%20b.txt"


def test_another_file_system(server, target, monkeypatch):
    rename = Path.replace

    def replace(path, to):
        if path.parent != Path(to).parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(path, to)

    monkeypatch.setattr(Path, "replace", replace)
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert list(target.parent.iterdir()) == [target]
    assert left_over(server.url) == set()


def test_two_at_once_do_not_write_one_part(server, tmp_path):
    running, most = [0], [0]

    def slow(handler):
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.1)
        running[0] -= 1
        good(handler)

    server.answers = [slow, slow]
    targets = [tmp_path / "a.txt", tmp_path / "b.txt"]
    threads = [threading.Thread(target=fetch, args=(server.url, target)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [target.read_bytes() for target in targets] == [DATA, DATA]
    assert most == [1]


def test_a_killed_process_is_taken_up_by_the_next(server, target):
    server.answers = [stall]
    script = (
        "import sys, pathlib; from tinystories.transfer import fetch; fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    with subprocess.Popen([sys.executable, "-c", script, server.url, target]) as process:
        for _ in range(2000):
            if part_file(server.url).exists() and part_file(server.url).stat().st_size:
                break
            time.sleep(0.01)
        process.kill()
    assert not target.exists()
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges()[0] is None
    assert re.fullmatch(r"bytes=[1-9]\d*-", server.ranges()[1])


MISCHIEF = st.one_of(
    st.integers(0, len(DATA)).map(cut),
    st.integers(0, len(DATA)).map(lambda byte: lambda handler: no_ranges(handler, until=byte)),
    st.integers(0, len(DATA)).map(lambda byte: lambda handler: good(handler, until=byte, if_range=False)),
    st.sampled_from([hang_up, status(503), status(429, Retry_After=1), status(500)]),
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mischief=st.lists(MISCHIEF, max_size=8), known=st.booleans())
def test_whatever_happens_the_bytes_are_right(server, target, mischief, known):
    server.answers = list(mischief)
    fetch(server.url, target, size=len(DATA) if known else None, sha256=SHA256 if known else None)
    assert target.read_bytes() == DATA
    target.unlink()
