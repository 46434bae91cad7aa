"""What was published answers prompts, in a real `mlflow models serve`."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import checkpoint
from tinystories.api.model import load
from tinystories.common import paths
from tinystories.common.params_file import load_params
from tinystories.publishing.publish import publish
from tinystories.tracking.mlflow_store import tracking_uri

__all__ = ["checkpoint"]


@pytest.fixture
def published(root: Path, files: Path, checkpoint: Path) -> dict[str, str]:
    """A store whose champion is the checkpoint. Returns the environment of a process that uses it."""
    shutil.rmtree(paths.CHECKPOINT)
    shutil.copytree(checkpoint, paths.CHECKPOINT)
    publish(load_params(), root)
    source = Path(__file__).parents[2] / "src"
    return {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri("", root), "PYTHONPATH": str(source)}


@pytest.fixture
def served(published: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """The address at which a real server answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with (tmp_path / "serve.log").open("w") as log:
        command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", "models:/tinystories@champion"]
        command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
        # Its own group, because the server is a child of the command.
        process = subprocess.Popen(command, env=published, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "serve.log").read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def ask(address: str, body: str, kind: str = "application/json") -> tuple[int, str]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def payload(prompts: list[Any], **params: Any) -> str:
    return json.dumps({"dataframe_split": {"columns": ["prompt"], "data": [[p] for p in prompts]}, "params": params})


@pytest.mark.slow
def test_champion_is_served_over_http(served: str, checkpoint: Path) -> None:
    model = load(checkpoint)
    prompts = ["One day, Lily", "", "Zoë 🐉 <|endoftext|>"]
    options = {"temperature": 0.8, "top_k": 5, "top_p": 0.9, "seed": 7}
    code, said = ask(served, payload(prompts, **options, max_new_tokens=20))
    stories = [prompt + model.generate(prompt, length=20, **options) for prompt in prompts]  # type: ignore[arg-type]
    assert (code, json.loads(said)) == (200, {"predictions": stories})
    code, said = ask(served, '{"inputs": {"prompt": ["One"]}, "params": {"max_new_tokens": 3}}')
    assert code == 200 and json.loads(said)["predictions"][0].startswith("One")
    code, said = ask(served, payload(["a b " * 250_000], max_new_tokens=1))
    assert code == 200, said[:300]

    refused = {
        payload(["x"], temperature=float("nan")): "temperature is nan; it should be from 0",
        payload(["x"], top_k=0): "top_k is 0; it should be at least 1",
        payload(["x"], top_p=1.5): "top_p is 1.5; it should be greater than 0",
        payload(["x"], seed=-1): "seed is -1; it should be from 0",
        payload(["x"], max_new_tokens=0): "max_new_tokens is 0; it should be from 1",
        payload(["x"], max_new_tokens="many"): "max_new_tokens",
        payload([1]): "a prompt is 1; it should be text",
        payload([None]): "a prompt is",
        '{"inputs": {"beginning": ["x"]}}': "prompt",
        "{}": "must be a JSON dictionary with exactly one of the input fields",
        "no JSON": "JSON",
        '{"dataframe_split": {"columns": ["prompt"], "data": [["\\ud800"]]}}': "surrogates not allowed",
    }
    for body, words in refused.items():
        code, said = ask(served, body)
        assert 400 <= code < 500 and words in said and "stack_trace" not in said, (body, code, said)
    code, said = ask(served, "x", "text/odd")
    assert code == 415 and "Traceback" not in said
    code, said = ask(served, payload(["One"], max_new_tokens=1))
    assert code == 200, "it still answers"
