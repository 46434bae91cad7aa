"""Passwords are refused in params.yaml, and never printed or stored. Needs DVC and a local port."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import constants

from tests.support.faulty_server import WHOLE, hang_up, status
from tests.support.repository import PARAMS, Repository
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params
from tinystories.common.urls import is_address, may_hold_credentials
from tinystories.sources import hub
from tinystories.sources.hub import fetch

SECRETS = ("hunter2", "t0ken", "s0mebody")
ADDRESSES = [
    "https://s0mebody:hunter2@host.example/x.txt",
    "https://s0mebody@host.example/x.txt",
    "https://host.example/x.txt?sig=t0ken",
    "https://host.example/x.txt#t0ken",
    "https://s0mebody:hun/ter2hunter2@host.example",
    "https:/s0mebody:hunter2@host.example/x.txt",
    " HTTPS://s0mebody:hunter2@host.example/x.txt",
    "https://some body:hun'ter2@host.example/hunter2",
]


@pytest.mark.parametrize("key", ["data.files.train", "data.files.valid", "mlflow.tracking_uri"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_load_params_refuses_credentials(empty, key, address):
    """params.yaml is in git, and DVC copies its values into dvc.lock and its cache."""
    write_params({key: address})
    with pytest.raises(UserError) as caught:
        load_params()
    message = str(caught.value)
    assert message.startswith(
        f"params.yaml: {key} is an address (not shown); it should have no user, password or query"
    )
    assert ("MLFLOW_TRACKING_URI" if key.startswith("mlflow") else "dvc import-url") in message
    assert not any(secret in message for secret in SECRETS) and len(message.splitlines()) == 1


@pytest.mark.parametrize("wrong", [[ADDRESSES[0]], {"a": [ADDRESSES[0]]}, [[["x" * 50 + ADDRESSES[0]]]]])
def test_load_params_does_not_repeat_a_misplaced_url(empty, wrong):
    write_params({"data.files.train": wrong})
    with pytest.raises(UserError) as caught:
        load_params()
    assert not any(secret in str(caught.value) for secret in ("hunter2", "s0mebody:"))


@pytest.mark.parametrize(
    ("text", "address", "credentials"),
    [
        ("", False, False),
        ("my/stories?.txt", False, False),
        ("data@2024/#1/*.txt", False, False),
        ("C:/stories/a@b.txt", False, False),
        ("https://host.example:8080/a%20b.txt", True, False),
        ("sqlite:///mlflow.db", True, False),
        ("postgresql://s0mebody:hunter2@host.example/mlflow", True, True),
    ],
)
def test_is_address(text, address, credentials):
    assert (is_address(text), may_hold_credentials(text)) == (address, credentials)


def write_params(changes: dict[str, Any]) -> None:
    values = yaml.safe_load(PARAMS.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(values))


def test_fetch_hides_proxy_password(empty, server, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "STALL_TIMEOUT", 1.0)
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 1.0)
    monkeypatch.setenv("HTTP_PROXY", "http://s0mebody:hunter2@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://s0mebody:hunter2@127.0.0.1:9")
    with pytest.raises(UserError, match=r"the connection is refused \(by the proxy that HTTP_PROXY, ") as caught:
        fetch("http://host.example/a.txt", Path("a.txt"), **WHOLE)
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_fetch_keeps_the_token_secret(empty, server, monkeypatch, capfd):
    """Nor does the library print it, or an endpoint's password, where a server misbehaves."""
    monkeypatch.setenv("HF_TOKEN", "hf_t0ken")
    server.answers = [hang_up, status(429, Retry_After=1), status(401)]
    url = server.url.replace("user:secret@", "s0mebody:hunter2@")
    with pytest.raises(UserError, match="401") as caught:
        fetch(url.replace("s0mebody:hunter2@", ""), Path("a.txt"), **WHOLE)
    assert server.heads[0]["Authorization"] == "Bearer hf_t0ken"
    server.answers = [hang_up]
    fetch(url, Path("a.txt"), **WHOLE)
    said = "".join((str(caught.value), *capfd.readouterr()))
    kept = [path.read_text(errors="ignore") for path in empty.rglob("*") if path.is_file()]
    assert not any(secret in text for secret in SECRETS for text in (said, *kept))


def test_pipeline_stores_no_credentials(finished: Repository, tmp_path: Path):
    """Neither of an address in params.yaml, which is refused, nor of the one in the environment."""
    repository = finished.copy(tmp_path / "project")
    repository.change(mlflow__tracking_uri=ADDRESSES[0])
    params = repository.path / "params.yaml"
    said = repository.run("dvc", "repro", fails=True)
    assert "mlflow.tracking_uri is an address (not shown)" in said
    params.unlink()
    repository.run("git", "checkout", "params.yaml")
    repository.run("dvc", "checkout")  # what DVC took away before the stage refused
    repository.environment["MLFLOW_TRACKING_URI"] = "http://s0mebody:hunter2@127.0.0.1:9/?token=t0ken"
    repository.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    shutil.rmtree(repository.path / ".state")  # else nothing is trained, and nothing streamed
    said += repository.run("dvc", "repro", "--force", "--single-item", "train")
    said += repository.run("dvc", "repro", "--force", "--single-item", "publish", fails=True)
    assert "warning: MLflow at http://127.0.0.1:9" in said and "error: MLflow at http://127.0.0.1:9" in said
    kept = [path for path in repository.path.rglob("*") if path.is_file() and "src" not in path.parts]
    assert any(path.name == "dvc.lock" for path in kept) and any("runs" in path.parts for path in kept)
    tests = repository.path / "tests"
    for secret in SECRETS:
        assert secret not in said
        holders = [path for path in kept if secret.encode() in path.read_bytes() and not path.is_relative_to(tests)]
        assert not holders, holders
