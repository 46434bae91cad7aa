"""Downloads: what arrives is the file, whole, however often it is cut, changed or wrong on the way."""

import errno
import hashlib
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty_server import (
    DATA,
    OTHER,
    SHA256,
    body,
    chunked,
    cut,
    endless,
    good,
    hang_up,
    left_over,
    no_ranges,
    problem,
    put_part,
    stall,
    status,
)
from tinystories.sources import download
from tinystories.sources.download import fetch, part_file


def test_fetch(server, target):
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.requests[0]["Authorization"].startswith("Basic ")
    assert server.requests[0]["Accept-Encoding"] == "identity"
    assert left_over(server.url) == set()


def test_fetch_resumes_where_it_was_cut(server, target):
    tenths = [len(DATA) * tenth // 10 for tenth in range(10)]
    server.answers = [cut(byte) for byte in tenths]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None, *(f"bytes={byte}-" for byte in tenths[1:])]
    assert {headers["If-Range"] for headers in server.requests[2:]} == {'"one"'}


@pytest.mark.parametrize("known", [{}, {"size": len(DATA), "sha256": SHA256}])
def test_fetch_restarts_without_ranges(server, target, known):
    server.answers = [cut(5000), no_ranges]
    fetch(server.url, target, **known)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-"]


def test_fetch_restarts_without_validator(server, target):
    server.answers = [lambda handler: no_ranges(handler, until=5000), no_ranges]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_fetch_resumes_by_checksum_despite_weak_etag(server, target):
    server.etag = 'W/"one"'
    server.answers = [cut(5000)]
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=5000-"]
    assert "If-Range" not in server.requests[1]


@pytest.mark.parametrize("if_range", [True, False])
def test_fetch_never_mixes_versions(server, target, if_range):
    def change(handler):
        server.data, server.etag = OTHER, '"two"'
        good(handler, if_range=if_range)

    server.answers = [cut(5000), change]
    fetch(server.url, target)
    assert target.read_bytes() == OTHER


def test_fetch_drops_too_long_part(server, target):
    put_part(server.url, DATA + b"more", validator='"one"', size=len(DATA))
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [f"bytes={len(DATA) + 4}-", None]


def test_fetch_takes_whole_part(server, target):
    put_part(server.url, DATA, validator='"one"', size=len(DATA))
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1  # answered 416: there is nothing more

    put_part_again = target.rename(part_file(server.url))
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 1
    assert not put_part_again.exists()


def test_fetch_checks_resumed_part(server, target):
    put_part(server.url, OTHER[:5000], validator='"one"', size=len(DATA))
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == ["bytes=5000-", None]


def test_fetch_wrong_length_keeps_part(server, target, impatient):
    put_part(server.url, DATA[:5000], validator='"one"', size=len(DATA))
    server.answers = [body(b"<html>Log in to the network", Content_Type="text/html; charset=utf-8")] * 1000
    message = problem(server.url, target, size=len(DATA), sha256=SHA256)
    assert "found 27 bytes (text/html), expected 102,400 bytes" in message
    assert part_file(server.url).read_bytes() == DATA[:5000]


def test_fetch_refuses_more_bytes(server, target):
    server.answers = [chunked, chunked]
    message = problem(server.url, target, size=len(DATA) - 5000, sha256=SHA256)
    assert "found more than 97,400 bytes" in message
    assert left_over(server.url) <= {".json"}


def test_fetch_retries_wrong_bytes_once(server, target):
    server.answers = [body(OTHER)]
    fetch(server.url, target, size=len(DATA), sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None]


def test_fetch_refuses_wrong_bytes(server, target):
    server.data = OTHER
    message = problem(server.url, target, size=len(DATA), sha256=SHA256)
    assert hashlib.sha256(OTHER).hexdigest() in message and SHA256 in message
    assert len(server.requests) == 2
    assert left_over(server.url) <= {".json"}


def test_fetch_unknown_length(server, target):
    server.answers = [chunked]
    fetch(server.url, target)
    assert target.read_bytes() == DATA

    server.answers = [lambda handler: chunked(handler, until=50_000)]
    fetch(server.url, target, sha256=SHA256)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, None, "bytes=50000-"]


def test_fetch_endless_file_takes_half_the_disk(server, small_disk, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(small_disk.path))
    server.answers = [endless]
    before = shutil.disk_usage(small_disk.path).free
    assert re.search(
        r"no end after 4,[0-9,]+ bytes, and no length told", problem(server.url, small_disk.path / "data/stories.txt")
    )
    assert shutil.disk_usage(small_disk.path).free > before - 20_000
    assert left_over(server.url) <= {".json"}


def test_fetch_endless_file_on_large_disk(server, target, monkeypatch):
    monkeypatch.setattr(download, "MAX_UNSIZED_BYTES", 200_000)
    server.answers = [endless]
    found = re.search(r"no end after ([0-9,]+) bytes, and no length told", problem(server.url, target))
    assert found
    assert 200_000 < int(found[1].replace(",", "")) < 2_000_000, "some pieces more, as they come"
    assert left_over(server.url) <= {".json"}


def test_fetch_never_begins_without_space(server, target):
    server.answers = [lambda handler: handler.head(Content_Length=10**17)]
    with pytest.raises(OSError, match="No space left on device"):
        fetch(server.url, target)
    assert left_over(server.url) == set()


def test_fetch_known_size_without_header(server, target):
    def unsized(handler):
        handler.head(ETag='"one"')
        handler.wfile.write(DATA[:50_000])

    server.answers = [unsized]
    fetch(server.url, target, size=len(DATA))
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=50000-"]


def test_fetch_refuses_html_and_compression(server, target):
    server.answers = [body(b"<html>Log in", Content_Type="text/html; charset=utf-8")]
    assert "found an HTML page; expected a text file" in problem(server.url, target)
    server.answers = [body(b"\x1f\x8b", Content_Encoding="gzip")]
    assert "sends it compressed (gzip)" in problem(server.url, target)


def test_fetch_to_another_file_system(server, target, monkeypatch):
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


def test_fetch_two_at_once(server, tmp_path):
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


def test_fetch_resumes_after_kill(server, target):
    server.answers = [stall]
    script = (
        "import sys, pathlib; from tinystories.sources.download import fetch; "
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
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


@pytest.mark.slow
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mischief=st.lists(MISCHIEF, max_size=8), known=st.booleans())
def test_fetch_any_faults(server, target, mischief, known):
    server.answers = list(mischief)
    fetch(server.url, target, size=len(DATA) if known else None, sha256=SHA256 if known else None)
    assert target.read_bytes() == DATA
    target.unlink()
