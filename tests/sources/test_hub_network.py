"""Downloads over networks that are busy, slow, wrong or not there: when they wait, when they give up, what they say.

Needs a local port.
"""

import contextlib
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from huggingface_hub import close_session, constants

from tests.support.faulty_server import DATA, WHOLE, Server, cut, hang_up, problem, silence, stall, status
from tests.support.stage import await_true
from tinystories.common.errors import UserError
from tinystories.sources import hub
from tinystories.sources.hub import fetch, part_file

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_fetch_tries_a_busy_server_again(server, target, code):
    server.head_answers = [status(code, Retry_After=1)] * 3
    server.answers = [status(code, Retry_After=1)] * 3
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert len(server.requests) == 4


def test_fetch_busy_server(server, target, impatient):
    server.always = status(429, Retry_After=3600)
    assert "the server answers 429 Too Many Requests; gave up after 0.5 s" in problem(server.url, target)


def test_fetch_resumes_after_stall(server, target, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    server.answers = [stall]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges() == [None, "bytes=20000-"]


def test_fetch_stalled_for_good_keeps_part(server, target, impatient, monkeypatch):
    server.answers = [stall, *[silence] * 100]
    message = problem(server.url, target)
    assert "the server does not answer; gave up after 0.5 s without progress; what has arrived is kept" in message
    assert part_file(target).read_bytes() == DATA[:20_000]
    server.answers.clear()
    server.over.set()
    monkeypatch.setattr(hub, "STALL_TIMEOUT", 20.0)
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=20000-"


def test_fetch_waits_as_long_as_the_library(server, target, impatient, monkeypatch):
    """HF_HUB_DOWNLOAD_TIMEOUT may say that this server needs more time."""
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 20.0)
    server.head_answers = [hang_up] * 3
    monkeypatch.setattr(hub, "RETRY_SECONDS", 0.5)
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416])
@pytest.mark.parametrize("only_get", [False, True])
def test_fetch_final_status(server, target, code, only_get):
    if only_get:
        server.answers = [status(code)]
    else:
        server.always = status(code)
    message = problem(server.url, target)
    assert f"the server answers {code} " in message
    assert ("HF_TOKEN" in message) == (code in (401, 403))
    assert (len(server.heads), len(server.requests)) == (1, int(only_get))


def test_fetch_redirects(server, target):
    server.head_answers = [status(307, Location="/elsewhere")]
    server.answers = [status(302, Location="/elsewhere.txt")]
    fetch(server.url, target, **WHOLE)
    assert target.read_bytes() == DATA
    target.unlink()
    server.always = status(302, Location="/stories.txt?token=secret")
    assert "the server redirects in a loop" in problem(server.url, target)
    server.head_answers = [cut(0)]
    server.answers = [status(302, Location="ftp://user:secret@127.0.0.1/")]
    assert "redirects to, is no http(s) URL" in problem(server.url, target)


def test_fetch_sends_no_token_to_another_host(server, target, monkeypatch):
    """As the Hub does, which sends to a network of copies."""
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    away = status(302, Location=f"http://localhost:{server.server_port}/b", X_Linked_Size=len(DATA), ETag="one")
    server.head_answers, server.answers = [away], [away]
    fetch(f"{server.endpoint}/datasets/o/n/resolve/main/a.txt", target, **WHOLE)
    assert target.read_bytes() == DATA
    assert server.heads[0]["Authorization"] == "Bearer hf_abc"
    assert [headers.get("Authorization") for headers in server.requests] == ["Bearer hf_abc", None]


def test_fetch_no_tls(target, impatient):
    def answer_plainly() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.0 400 Bad request\r\n\r\n")
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(65536)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer_plainly, daemon=True).start()
        url = f"https://user:secret@127.0.0.1:{listening.getsockname()[1]}/a.txt"
        assert "no TLS (https) connection" in problem(url, target)
        listening.shutdown(socket.SHUT_RDWR)


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


def test_fetch_self_signed_certificate(server, target, tmp_path, monkeypatch):
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with Server() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = server.url.replace("http:", "https:")
        message = problem(url, target)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        close_session()
        fetch(url, target, **WHOLE)
        server.shutdown()
        thread.join()
    assert "the host's certificate is not trusted (TLS; SSL_CERT_FILE adds one)" in message
    assert target.read_bytes() == DATA


@pytest.fixture
def two_seconds(server, monkeypatch):
    """Long enough that a busy machine has tried the connection before it gives up."""
    monkeypatch.setattr(hub, "STALL_TIMEOUT", 2.0)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 2.0)


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


def test_fetch_offline(server, target, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"^HF_HUB_OFFLINE is set, and stories.txt is not in the cache /"):
        fetch(server.url, target, **WHOLE)
    assert not server.heads and not server.requests


@pytest.mark.parametrize("endpoint", ["", "http://", "ftp://user:secret@host", "huggingface.co"])
def test_fetch_refuses_what_is_no_url(server, target, endpoint):
    with pytest.raises(UserError, match=r"is no http\(s\) URL; HF_ENDPOINT should be https://HOST") as error:
        fetch(f"{endpoint}/a.txt", target, **WHOLE)
    assert "secret" not in str(error.value)


def test_fetch_refuses_what_is_no_proxy(server, target, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:secret@host")
    close_session()
    assert "huggingface_hub says: " in problem(server.url, target)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("trouble", [stall, silence])
def test_fetch_stops_at_once(server, target, number, trouble):
    server.answers = [trouble]
    script = (
        "import sys, pathlib; from tinystories.common import stage; from tinystories.sources.hub import fetch;"
        "stage.load_params = lambda: None;"
        "stage.run_stage(lambda _: fetch(sys.argv[1], pathlib.Path(sys.argv[2]), size=102_400, sha256=''))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", script, server.url, target]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        await_true(lambda: bool(server.requests))
        process.send_signal(number)
        started = time.monotonic()
        assert process.wait(60) == 128 + number
        assert time.monotonic() - started < hub.STALL_TIMEOUT / 2
        assert process.stderr and process.stderr.read() == ""
    assert not target.exists()
