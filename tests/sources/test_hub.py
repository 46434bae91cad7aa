"""Downloads: what arrives is the file, whole, however often it is cut, changed or wrong on the way.

Needs a local port.
"""

import hashlib
import subprocess
import sys
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty_server import (
    DATA,
    OTHER,
    SHA256,
    WHOLE,
    body,
    chunked,
    cut,
    endless,
    good,
    hang_up,
    no_ranges,
    problem,
    put_part,
    stall,
    status,
)
from tinystories.sources.hub import fetch, find_cached, part_file


def test_fetch(server, target):
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.requests[0]["Authorization"].startswith("Basic ")
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert list(target.parent.iterdir()) == [target]


def test_fetch_resumes_where_it_was_cut(server, target):
    cuts = [0, 10_000, 20_500, 60_000]
    server.answers = [cut(byte) for byte in cuts]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None, "bytes=10000-", "bytes=20000-", "bytes=60000-"]


def test_fetch_outlives_more_cuts_than_the_library(server, target):
    server.answers = [hang_up] * 15
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 16


def test_fetch_restarts_without_ranges(server, target):
    server.answers = [cut(5000), no_ranges]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-"]


def test_fetch_never_mixes_versions(server, target):
    put_part(target, OTHER[:5000])
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == ["bytes=5000-", None]


def test_fetch_drops_too_long_part(server, target):
    put_part(target, DATA + b"more")
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None]


def test_fetch_takes_whole_part(server, target):
    put_part(target, DATA)
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert not server.requests and not server.heads


def test_fetch_html_page_keeps_part(server, target, impatient):
    """Such as a network's log-in page, which answers everything."""
    put_part(target, DATA[:5000])
    server.always = body(b"<html>Log in to the network", Content_Type="text/html; charset=utf-8")
    message = problem(server.url, target)
    assert (
        "found 27 bytes, expected 102,400 bytes; gave up after 0.5 s without progress; what has arrived is" in message
    )
    assert part_file(target).read_bytes() == DATA[:5000]


def test_fetch_html_page_for_a_moment(server, target):
    """No byte of it stays, also where it came only after the Hub had answered properly."""
    server.head_answers = [body(b"<html>", Content_Type="text/html")]
    server.answers = [cut(5000), body(b"<html>", Content_Type="text/html")]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-", None]
    assert len(server.heads) == 3


def test_fetch_html_page_in_place_of_the_rest(server, target):
    """The library empties the file for it."""
    put_part(target, DATA[:5000])
    server.answers = [body(b"<html>", Content_Type="text/html")]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == ["bytes=5000-", None]


def test_fetch_refuses_more_bytes(server, target):
    server.answers = [endless]
    server.head_answers = [chunked]
    assert "found more than 102,400 bytes; expected just these" in problem(server.url, target)
    assert part_file(target).read_bytes() == b""


def test_fetch_retries_wrong_bytes_once(server, target):
    server.answers = [body(OTHER)]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_fetch_refuses_wrong_bytes(server, target):
    server.data = OTHER
    message = problem(server.url, target)
    assert hashlib.sha256(OTHER).hexdigest() in message and SHA256 in message
    assert len(server.requests) == 2
    assert not list(target.parent.iterdir())


def test_fetch_unknown_length(server, target):
    server.answers = [lambda handler: chunked(handler, until=50_000), chunked]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=50000-"]


def test_fetch_compressed_anyway(server, target):
    server.answers = [body(b"\x1f\x8b", Content_Encoding="gzip")]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA


def test_fetch_resumes_after_kill(server, target):
    """Also on a slow line: the library itself would hand over nothing of these 70 kB."""
    server.answers = [lambda handler: stall(handler, until=70_000)]
    script = (
        "import sys, pathlib; from tinystories.sources.hub import fetch, constants; constants.HF_HUB_OFFLINE = False;"
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]), size=102_400, sha256='')"
    )
    with subprocess.Popen([sys.executable, "-c", script, server.url, target]) as process:
        for _ in range(2000):
            if part_file(target).exists() and part_file(target).stat().st_size >= 65_536:
                break
            time.sleep(0.01)
        process.kill()
    assert not target.exists()
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=65536-"]


def test_find_cached_asks_no_network(server, tmp_path):
    assert find_cached("o/n", "main", "stories.txt") is None
    assert not server.heads and not server.requests


MISCHIEF = st.one_of(
    st.integers(0, len(DATA)).map(cut),
    st.integers(0, len(DATA)).map(lambda byte: lambda handler: no_ranges(handler, until=byte)),
    st.sampled_from([hang_up, status(503), status(429, Retry_After=1), status(500), body(b"<html>"), good]),
)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(MISCHIEF, max_size=8), head_answers=st.lists(st.sampled_from([hang_up, status(500)])))
def test_fetch_any_faults(server, target, answers, head_answers):
    server.answers, server.head_answers = list(answers), list(head_answers)
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    target.unlink()
