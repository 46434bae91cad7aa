"""Taking over what `train.init_from` names, and what is refused. From the registry: test_mlflow_registry."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, Qwen3ForCausalLM

from tests.support.checkpoints import checkpoint
from tinystories.common import paths
from tinystories.common.artifacts import ParentRecord
from tinystories.common.errors import UserError
from tinystories.common.files import sha256_of
from tinystories.common.params import Params
from tinystories.corpus.stories import write_stories
from tinystories.model.checkpoint import load_checkpoint
from tinystories.sources.prepare import prepare
from tinystories.tokenizer_training.bpe import save_tokenizer, train_tokenizer
from tinystories.tokenizer_training.parent import prepare_tokenizer

__all__ = ["checkpoint"]

PLACE = "data/own/parent/model"


def going_on_from(params: Params, init_from: str, vocab_size: int = 300) -> Params:
    section = params.tokenizer.model_copy(update={"vocab_size": vocab_size})
    train = params.train.model_copy(update={"init_from": init_from})
    return params.model_copy(update={"tokenizer": section, "train": train})


@pytest.fixture
def parent(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint at its place in the current directory, which has no stories, so no tokenizer can be trained."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return Path(shutil.copytree(checkpoint, PLACE))


def test_prepare_tokenizer_takes_over(parent, small_params, tokenizer_file, capsys):
    prepare_tokenizer(going_on_from(small_params, PLACE))
    assert paths.TOKENIZER.read_bytes() == tokenizer_file.read_bytes()
    weights = "model.safetensors"
    assert (paths.PARENT / weights).read_bytes() == (parent / weights).read_bytes()
    record = ParentRecord.read().parent
    assert record and (record.init_from, record.sha256) == (PLACE, sha256_of(parent / weights))
    assert capsys.readouterr().out.count(f"No tokenizer is trained: that of {PLACE} is taken over") == 1


def test_prepare_tokenizer_without_a_parent_keeps_no_copy(parent, small_params, stories, tokenizer):
    prepare_tokenizer(going_on_from(small_params, PLACE))
    write_stories(paths.RAW_TRAIN, stories)
    prepare_tokenizer(going_on_from(small_params, ""))
    assert ParentRecord.read().parent is None and not paths.PARENT.exists()
    assert json.loads(paths.TOKENIZER.read_text()) == json.loads(tokenizer.to_str())


def test_prepare_tokenizer_takes_what_transformers_wrote(parent, small_params, tokenizer_file):
    before = sha256_of(parent / "model.safetensors")
    model, tokenizer = Qwen3ForCausalLM.from_pretrained(parent), AutoTokenizer.from_pretrained(parent)
    model.model.norm.weight.data += 1
    model.save_pretrained(parent)
    tokenizer.save_pretrained(parent)
    prepare_tokenizer(going_on_from(small_params, PLACE))
    assert paths.TOKENIZER.read_bytes() == tokenizer_file.read_bytes()
    record = ParentRecord.read().parent
    assert record and record.sha256 != before
    assert torch.equal(load_checkpoint(paths.PARENT).final_norm, model.model.norm.weight)


def refusal(params: Params) -> str:
    with pytest.raises(UserError) as error:
        prepare_tokenizer(params)
    assert len(str(error.value).splitlines()) == 1
    assert not paths.TOKENIZER.exists() and not paths.PARENT_RECORD.exists()
    return str(error.value)


def test_prepare_tokenizer_refuses_another_shape(parent, small_params):
    params = going_on_from(small_params, PLACE, vocab_size=400)
    params = params.model_copy(update={"model": params.model.model_copy(update={"layers": 4, "context_length": 16})})
    said = refusal(params)
    assert said == (
        f"train.init_from is {PLACE!r}; tokenizer.vocab_size is 400 and its own 300, model.context_length is 16 and "
        "its own 12, model.layers is 4 and its own 3; run: dvc exp run -S tokenizer.vocab_size=300 "
        "-S model.context_length=12 -S model.layers=3"
    )
    with pytest.raises(UserError, match="model.layers is 4 and its own 3"):
        prepare(params)  # the stage before refuses it too, before minutes of work
    assert not Path("data/raw").exists()


def test_prepare_tokenizer_refuses_what_is_no_checkpoint(parent, small_params, stories):
    params = going_on_from(small_params, PLACE)
    other = train_tokenizer(stories, vocab_size=290, total_bytes=1)
    save_tokenizer(other, parent / "tokenizer.json")
    assert "tokenizer.json has 290 entries, the model 300; they are not of one training" in refusal(params)
    (parent / "tokenizer.json").unlink()
    assert f"{PLACE}/tokenizer.json: no such file" in refusal(params)
    weights = parent / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert f"{PLACE}/model.safetensors: " in refusal(params)
    weights.unlink()
    assert f"{PLACE}/model.safetensors: no such file" in refusal(params)
    GPT2Config().save_pretrained(parent)
    assert f"{PLACE}/config.json: not of a model that train makes" in refusal(params)
    (parent / "config.json").unlink()
    assert f"{PLACE}: no checkpoint, for it has no config.json" in refusal(params)
    shutil.rmtree(parent)
    assert f"train.init_from is {PLACE!r}: no such directory" in refusal(params)
    parent.touch()
    assert f"train.init_from is {PLACE!r}: a file" in refusal(params)
