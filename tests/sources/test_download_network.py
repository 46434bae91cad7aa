"""Downloads over networks that are busy, slow, wrong or not there: when they wait, when they give up, what they say."""

import ipaddress
import socket
import ssl
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests

from tests.support.faulty_server import DATA, Server, cut, hang_up, problem, silence, stall, status
from tinystories.common.errors import UserError
from tinystories.sources import download
from tinystories.sources.download import fetch, part_file, public_url

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("code", [429, 503])
def test_fetch_waits_as_asked(server, target, monkeypatch, code):
    waits: list[float] = []
    monkeypatch.setattr(download, "MAX_BACKOFF", 10.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=7), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=7), usegmt=True)
    asked = ["2", date, "3600", past, "soon", "9" * 30]
    server.answers = [status(code, Retry_After=value) for value in asked]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert waits[0] == 2 and 5 < waits[1] <= 7 and waits[2] == 10 and waits[3] == 0
    assert 0 < waits[4] < waits[5] < 0.1  # no time that could be understood: the usual waits


def test_fetch_backoff_grows_and_resets(server, target, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(download, "MAX_BACKOFF", 10.0)
    monkeypatch.setattr(download, "INITIAL_BACKOFF", 0.5)
    monkeypatch.setattr(time, "sleep", waits.append)
    server.answers = [status(500), status(502), hang_up, cut(10), status(504), hang_up]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert waits == [0.5, 1, 2, 0.5, 1, 2]


def test_fetch_busy_server(server, target, impatient):
    server.answers = [status(429, Retry_After=3600)] * 1000
    assert "answers 429 Too Many Requests and asks to wait 3600 s; gave up after 0.3 s" in problem(server.url, target)


def test_fetch_resumes_after_stall(server, target, monkeypatch):
    monkeypatch.setattr(download, "READ_TIMEOUT", 1.0)
    server.answers = [stall]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=20000-"]


def test_fetch_stalled_for_good_keeps_part(server, target, impatient, monkeypatch):
    server.answers = [stall, *[silence] * 100]
    message = problem(server.url, target)
    assert "the server does not answer; gave up after 0.3 s without progress; what has arrived is kept" in message
    assert part_file(server.url).read_bytes() == DATA[:20_000]
    server.answers.clear()
    server.over.set()
    monkeypatch.setattr(download, "STALL_TIMEOUT", 20.0)
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=20000-"


@pytest.mark.parametrize("code", [204, 304, 401, 403, 404, 410, 416])
def test_fetch_final_status(server, target, code):
    server.answers = [status(code)]
    assert f"the server answers {code} " in problem(server.url, target)
    assert len(server.requests) == 1


def test_fetch_redirects(server, target):
    server.answers = [status(302, Location="/elsewhere.txt")]
    fetch(server.url, target)
    assert target.read_bytes() == DATA
    target.unlink()
    server.answers = [status(302, Location="/stories.txt?token=secret")] * 100
    assert "the server redirects in a loop" in problem(server.url, target)
    server.answers = [status(302, Location="ftp://user:secret@127.0.0.1/")]
    assert "redirects to, is no http(s) URL" in problem(server.url, target)


def test_fetch_no_tls(server, target, impatient):
    assert "no TLS (https) connection" in problem(server.url.replace("http:", "https:"), target)


def test_fetch_untrusted_certificate(target, monkeypatch):
    def get(*args, **kwargs):
        try:
            raise ssl.SSLCertVerificationError("self-signed certificate")
        except OSError as error:
            raise requests.exceptions.SSLError(error) from None

    monkeypatch.setattr(requests, "get", get)
    assert "certificate is not trusted" in problem("https://user:secret@127.0.0.1/a.txt", target)


def self_signed(directory: Path) -> Path:
    """A certificate for 127.0.0.1 and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    place = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    now = datetime.now(UTC)
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    certificate = builder.add_extension(place, critical=False).sign(key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = directory / "certificate.pem"
    path.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return path


def test_fetch_self_signed_certificate(target, tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = server.url.replace("http:", "https:")
        message = problem(url, target)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        fetch(url, target)
        server.shutdown()
        thread.join()
    assert "the host's certificate is not trusted (TLS)" in message
    assert target.read_bytes() == DATA


@pytest.fixture
def two_seconds(monkeypatch):
    """Long enough that a busy machine has tried the connection before it gives up."""
    monkeypatch.setattr(download, "STALL_TIMEOUT", 2.0)


def test_fetch_connection_refused(target, two_seconds):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}/a.txt"
    assert "the connection is refused; gave up after 2 s without progress" in problem(url, target)


def test_fetch_no_such_host(target, two_seconds, monkeypatch):
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    message = problem("https://user:secret@stories.invalid/a.txt", target, host="stories.invalid")
    assert "the host's name is not found; is there a network?" in message


def test_fetch_slow_name_lookup(target, impatient, monkeypatch):
    over = threading.Event()

    def getaddrinfo(*args, **kwargs):
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    message = problem("https://user:secret@stories.invalid/a.txt", target, host="stories.invalid")
    over.set()
    assert "the server does not answer" in message


@pytest.mark.parametrize("seconds", [0.0, 3.0, 10.0, 60.0])
def test_fetch_gives_up_within_30_seconds(target, monkeypatch, seconds):
    monkeypatch.undo()
    monkeypatch.setenv("DVC_ROOT", str(target.parent))
    now = [0.0]

    def spend(amount):
        assert amount >= 0
        now[0] += amount

    def ask(url, headers, deadline):
        spend(min(seconds, deadline + 0.5))
        raise requests.ConnectionError

    monkeypatch.setattr(download, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=spend))
    monkeypatch.setattr(download, "_get", ask)
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
def test_fetch_refuses_what_is_no_url(url, target):
    with pytest.raises(UserError, match=r"^the URL cannot be understood; it should be http") as error:
        fetch(url, target)
    assert "secret" not in str(error.value)


def test_public_url():
    assert public_url("HTTPS://me:pw@Host.org:8080/a%20b.txt?key=pw#pw") == "https://Host.org:8080/a%20b.txt"
