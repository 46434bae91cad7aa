"""`tinystories serve` over real HTTP: completions, chat, streams, bad requests; its end. Needs xllamacpp."""

import http.client
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tinystories.cli.main import main
from tinystories.common.errors import UserError
from tinystories.export.llama_server import serve

pytest.importorskip("xllamacpp")


class Served:
    """The command, running."""

    def __init__(self, checkpoint: Path, directory: Path) -> None:
        self.port, self.temporary = free_port(), directory
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tinystories", "serve", "--port", str(self.port), str(checkpoint)],
            env={"PATH": "", "TMPDIR": str(directory), "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self.process.stdout
        self.greeting = self.process.stdout.readline() + self.process.stdout.readline()

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def post(self, path: str, **body: Any) -> Any:
        status, _, answer = self.ask("POST", path, json.dumps(body).encode())
        assert status == 200, answer
        return json.loads(answer)


@pytest.fixture(scope="module")
def served(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(checkpoint, tmp_path_factory.mktemp("temporary")) as running:
        yield running


def test_serve_says_where(served, checkpoint):
    assert served.greeting.startswith(f"Serving {checkpoint} at http://127.0.0.1:{served.port}: ")
    assert served.greeting.endswith("\nCtrl-C ends it.\n")


def test_serve_completes_and_chats_alike(served):
    """A chat is one text that goes on."""
    greedy = {"max_tokens": 12, "temperature": 0}
    text = served.post("/v1/completions", prompt="Once upon a time", **greedy)["choices"][0]["text"]
    messages = [{"role": "user", "content": "Once upon"}, {"role": "assistant", "content": " a time"}]
    chat = served.post(
        "/v1/chat/completions", model="any", messages=[*messages, {"role": "user", "content": ""}], **greedy
    )
    assert chat["choices"][0]["message"]["content"] == text != ""


def test_serve_samples_by_default_and_repeats_with_a_seed(served):
    def ask(**more: Any) -> str:
        text: str = served.post("/v1/completions", prompt="Once", max_tokens=20, **more)["choices"][0]["text"]
        return text

    assert len({ask() for _ in range(3)}) > 1
    assert ask(seed=5) == ask(seed=5)


def test_serve_streams(served):
    body = json.dumps({"prompt": "Once", "max_tokens": 8, "temperature": 0, "stream": True, "ignore_eos": True})
    status, headers, answer = served.ask("POST", "/v1/completions", body.encode())
    assert (status, headers.get_content_type()) == (200, "text/event-stream")
    events = [line.removeprefix(b"data: ") for line in answer.split(b"\n\n") if line.startswith(b"data: ")]
    assert events[-1] == b"[DONE]"
    assert len(events) > 5
    streamed = "".join(choice["text"] for event in events[:-1] for choice in json.loads(event)["choices"])
    whole = served.post("/v1/completions", prompt="Once", max_tokens=8, temperature=0, ignore_eos=True)
    assert streamed == whole["choices"][0]["text"]


def test_serve_parallel_requests_do_not_mix(served):
    prompts = [f"One day, {name}" for name in ("Tom", "Lily", "Max", "Anna", "Sue", "Ben") * 3]

    def ask(prompt: str) -> str:
        answer = served.post("/v1/completions", prompt=prompt, max_tokens=3, temperature=0)
        text: str = answer["choices"][0]["text"]
        return text

    with ThreadPoolExecutor(9) as pool:
        together = list(pool.map(ask, prompts))
    assert together == [ask(prompt) for prompt in prompts]


def test_serve_takes_odd_texts(served):
    for prompt in ["", " ", "🐉 日本語", "\x00\x1b[31m\r\n", "<|endoftext|>", "a<|endoftext|>b"]:
        assert served.post("/v1/completions", prompt=prompt, max_tokens=2)["usage"]["completion_tokens"] <= 2


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/completions", b"no json", 400, "parse error"),
        ("/v1/completions", b"", 400, "parse error"),
        ("/v1/completions", b'"text"', 400, ""),
        ("/v1/completions", b"\xff\xfe", 400, "parse error"),
        ("/v1/completions", b"{}", 400, "prompt"),
        ("/v1/completions", b'{"prompt": "a", "temperature": "hot"}', 400, "type must be number"),
        ("/v1/completions", b'{"prompt": "a", "temperature": NaN}', 400, "parse error"),
        ("/v1/completions", json.dumps({"prompt": "One day " * 99}).encode(), 400, "the available context"),
        ("/v1/completions", json.dumps({"prompt": "ab " * 300_000}).encode(), 400, "the available context"),
        ("/v1/chat/completions", b'{"messages": "hello"}', 400, "messages"),
        ("/v1/nothing", b"{}", 404, "Not Found"),
    ],
)  # fmt: skip
def test_serve_refuses_bad_requests(served, path, body, status, words):
    found, _, answer = served.ask("POST", path, body)
    assert (found, words in json.loads(answer)["error"]["message"]) == (status, True), answer
    assert served.post("/v1/completions", prompt="a", max_tokens=1)["usage"]["completion_tokens"] == 1


def test_serve_shows_a_page(served):
    status, headers, page = served.ask("GET", "/", **{"Accept-Encoding": "gzip"})
    assert (status, headers.get_content_type(), len(page) > 500) == (200, "text/html", True)


def test_serve_lets_no_other_page_read_answers(served):
    _, headers, _ = served.ask("GET", "/v1/models", Origin="http://elsewhere.example")
    assert headers["Access-Control-Allow-Origin"] == f"http://127.0.0.1:{served.port}"
    assert served.ask("GET", "/slots")[0] == 501  # what others ask


def test_serve_refuses_a_port_in_use(served, tmp_path, capsys):
    assert main(["serve", "--port", str(served.port), str(tmp_path / "no model")]) == 1
    assert (
        capsys.readouterr().err
        == f"error: --host 127.0.0.1 --port {served.port}: Address already in use; name another\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_ends_quietly(checkpoint, tmp_path, number):
    """Also while it answers."""
    with (
        Served(checkpoint, tmp_path) as running,
        closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)) as connection,
    ):
        connection.request("POST", "/v1/completions", json.dumps({"prompt": "a", "stream": True, "ignore_eos": True}))
        assert connection.getresponse().read(10)
        assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["tinystories"]
        running.process.send_signal(number)
        assert running.process.communicate(timeout=120)[0] == ""
        assert running.process.returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("no checkpoint", None, "no checkpoint/config.json: no such file"),
        ("none.gguf", None, "none.gguf: no such file; tinystories export gguf writes one"),
        ("text.gguf", b"Once upon a time", "text.gguf: not a model in GGUF"),
        ("cut.gguf", b"GGUF\x03\x00\x00\x00", "cut.gguf: not a model in GGUF"),
    ],
)
def test_serve_refuses_what_is_no_model(tmp_path, name, data, words, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=words) as caught:
        serve(str(tmp_path / name), "127.0.0.1", free_port())
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.glob("tinystories-*"))


def test_serve_names_missing_extra(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(UserError, match=r"xllamacpp is not installed; pip install .*\[serve\]"):
        serve(str(checkpoint), "127.0.0.1", free_port())


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_serve_command_refuses_other_ports(port, capsys):
    assert main(["serve", "--port", port]) == 1
    assert "--port" in capsys.readouterr().err
