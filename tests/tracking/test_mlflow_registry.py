"""A model's files by its address in the registry: a real sqlite store, and stores that do not answer."""

import shutil
import signal
import socket

import pytest

from tests.support.checkpoints import checkpoint
from tinystories.api.source import read_model
from tinystories.cli.main import main
from tinystories.common import paths
from tinystories.common.artifacts import ParentRecord
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.export import llama_server
from tinystories.tokenizer_training.parent import prepare_tokenizer
from tinystories.tracking.mlflow_registry import model_files
from tinystories.tracking.mlflow_store import connect, tracking_uri

__all__ = ["checkpoint"]


@pytest.fixture
def registry(root, checkpoint, monkeypatch):
    """A store in which the checkpoint is version 1 of a model, with an alias. Returns the store's address."""
    monkeypatch.chdir(root)
    uri = tracking_uri("", root)
    client = connect(uri)
    run = client.create_run(client.create_experiment("stories"))
    client.log_artifacts(run.info.run_id, str(checkpoint), "model/artifacts/checkpoint")
    client.create_registered_model("story teller")
    client.create_model_version("story teller", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("story teller", "champion", "1")
    return uri


@pytest.mark.parametrize("address", ["models:/story teller@champion", "models:/story teller/1"])
def test_model_files_holds_the_files(registry, checkpoint, address):
    with model_files(address, registry) as files:
        found = files / "artifacts/checkpoint/model.safetensors"
        assert found.read_bytes() == (checkpoint / "model.safetensors").read_bytes()
    assert not files.exists(), "only as long as they are needed"
    gpt, _, generation = read_model(address)
    assert gpt.vocab_size == 300 and generation["eos_token_id"] == 0


def test_logged_model_is_read_by_its_id(registry, checkpoint):
    client = connect(registry)
    model = client.create_logged_model(client.get_experiment_by_name("stories").experiment_id, name="epoch_1")
    client.log_model_artifacts(model.model_id, str(checkpoint))
    assert read_model(f"models:/{model.model_id}")[0].vocab_size == 300
    unknown = f"models:/m-{'0' * 32}"
    assert refusal(unknown, registry).startswith(f"{unknown} from MLflow at sqlite:///")


def test_export_and_serve_take_an_address(registry, tmp_path, monkeypatch, capsys):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    address, file = "models:/story teller@champion", tmp_path / "model.gguf"
    assert main(["export", "gguf", "--out", str(file), address]) == 0
    data = file.read_bytes()
    monkeypatch.setattr(llama_server, "_check_port", lambda *_: None)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(llama_server, "_parameters", lambda _, path, *rest: pytest.fail(str(path.read_bytes() == data)))
    with pytest.raises(pytest.fail.Exception, match="True"):  # it has come as far as to llama.cpp
        main(["serve", address])
    for command in (["export", "gguf"], ["serve"]):
        capsys.readouterr()
        assert main([*command, "models:/story teller@nobody"]) == 1
        assert capsys.readouterr().err.startswith("error: models:/story teller@nobody from MLflow at sqlite:///")


def refusal(address: str, uri: str) -> str:
    with pytest.raises(UserError) as error, model_files(address, uri):
        pass
    assert "\n" not in str(error.value)
    return str(error.value)


def test_model_files_refuses_what_is_not_there(registry, root):
    assert "alias nobody not found" in refusal("models:/story teller@nobody", registry)
    assert "version=9) not found" in refusal("models:/story teller/9", registry)
    assert "name=other not found" in refusal("models:/other@champion", registry)
    for address in ("models:/story", "models:/a/b", "models:/a@b/c", "models:x"):
        assert "it should be models:/NAME@ALIAS or models:/NAME/VERSION" in refusal(address, registry)
    (root / "mlflow.db").unlink()
    assert "no such file; nothing has been recorded there" in refusal("models:/a@b", registry)
    assert not (root / "mlflow.db").exists()


def test_model_files_refuses_a_server_that_does_not_answer(root, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = refusal("models:/a@b", f"http://user:secret@127.0.0.1:{port}")
    assert said.startswith(f"models:/a@b from MLflow at http://127.0.0.1:{port}: ") and "secret" not in said


def test_read_model_names_the_address_in_a_refusal(registry, checkpoint, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "half").mkdir()
    shutil.copy(checkpoint / "config.json", tmp_path / "half")
    client = connect(registry)
    for name in ("half", "empty"):
        client.create_model_version("story teller", (tmp_path / name).as_uri())
    for address, words in {
        "models:/story teller/2": "models:/story teller/2/model.safetensors: no such file",
        "models:/story teller/3": "models:/story teller/3: 0 checkpoints among its files",
    }.items():
        with pytest.raises(UserError) as error:
            read_model(address)
        assert str(error.value).startswith(words)


def test_prepare_tokenizer_takes_over_from_the_registry(registry, root, checkpoint, small_params):
    """Also what is refused before any work: see tests/tokenizer_training/test_parent.py."""

    def going_on_from(address, vocab_size=300):
        train = small_params.train.model_copy(update={"init_from": address})
        section = small_params.tokenizer.model_copy(update={"vocab_size": vocab_size})
        return small_params.model_copy(update={"train": train, "tokenizer": section})

    address = "models:/story teller@champion"
    for params, words in (
        (going_on_from("models:/story teller@nobody"), "models:/story teller@nobody from MLflow at sqlite:///"),
        (going_on_from(address, 400), f"train.init_from is '{address}'; tokenizer.vocab_size is 400 and its own 300;"),
    ):
        with pytest.raises(UserError) as error:
            prepare_tokenizer(params)
        assert str(error.value).startswith(words)
        assert not paths.TOKENIZER.exists()
    prepare_tokenizer(going_on_from(address))
    record = ParentRecord.read().parent
    assert record and record.init_from == address
    assert record.sha256 == sha256_of(checkpoint / "model.safetensors")
