"""The checkpoint directory: saved, loaded, opened by transformers, refused where it is damaged."""

import json
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinystories.common.errors import UserError
from tinystories.common.params import ModelConfig
from tinystories.inference.generate import generate
from tinystories.model.checkpoint import copy_checkpoint, load_checkpoint, save_checkpoint
from tinystories.model.gpt import GPT
from tinystories.model.stored_weights import WEIGHTS
from tinystories.tokenization.tokenizer import load_tokenizer

FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def checkpoint(random_model: Callable[..., GPT], tokenizer_file: Path, tmp_path: Path) -> Path:
    save_checkpoint(random_model(), tokenizer_file, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def same(first: GPT, second: GPT) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_load_checkpoint_returns_saved_weights(random_model, checkpoint):
    model, loaded = random_model(), load_checkpoint(checkpoint)
    assert loaded.config == model.config
    assert loaded.vocab_size == model.vocab_size
    assert same(model, loaded)
    assert all(weight.dtype == torch.float32 for weight in loaded.parameters())


@pytest.mark.parametrize("config", [(12, 24, 3, 2), (16, 64, 1, 8), (8, 6, 5, 1)])
def test_parameter_count_of_config_equals_models(config):
    context_length, embedding_size, layers, heads = config
    config = ModelConfig(context_length=context_length, embedding_size=embedding_size, layers=layers, heads=heads)
    assert config.parameter_count(300) == GPT(config, 300).parameter_count()


def test_save_checkpoint_stores_fp32_of_bf16_model(random_model, tokenizer_file, tmp_path, config):
    model = GPT(config, 300, torch.bfloat16)
    model.load_state_dict(random_model().state_dict())
    save_checkpoint(model, tokenizer_file, tmp_path / "checkpoint")
    assert same(load_checkpoint(tmp_path / "checkpoint"), random_model())


def test_save_checkpoint_writes_no_pickle(checkpoint, tokenizer_file):
    assert {path.name for path in checkpoint.iterdir()} == FILES
    assert load_tokenizer(checkpoint / "tokenizer.json").to_str(pretty=True) + "\n" == tokenizer_file.read_text()
    tensors = load_file(checkpoint / WEIGHTS)
    assert "lm_head.weight" not in tensors, "the output is tied"
    assert sum(tensor.numel() for tensor in tensors.values()) == load_checkpoint(checkpoint).parameter_count()


def test_save_checkpoint_replaces_older_one(random_model, checkpoint, tokenizer_file):
    (checkpoint / "pytorch_model.bin").write_bytes(b"old")
    (checkpoint.parent / ".checkpoint.part").mkdir()
    (checkpoint.parent / ".checkpoint.part" / "half.json").write_text("{")
    newer = random_model(seed=1)
    save_checkpoint(newer, tokenizer_file, checkpoint)
    assert {path.name for path in checkpoint.iterdir()} == FILES
    assert [path.name for path in checkpoint.parent.iterdir()] == ["checkpoint"]
    assert same(load_checkpoint(checkpoint), newer)


def test_copy_checkpoint_copies_every_file(checkpoint, tmp_path):
    """And replaces what stood there before."""
    target = tmp_path / "models" / "epoch_1"
    target.mkdir(parents=True)
    (target / "older").touch()
    copy_checkpoint(checkpoint, target)
    assert [path.name for path in target.parent.iterdir()] == ["epoch_1"]
    found, expected = ({path.name: path.read_bytes() for path in each.iterdir()} for each in (target, checkpoint))
    assert found == expected and len(found) == 5


def test_save_checkpoint_error_keeps_older_one(random_model, checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_checkpoint(random_model(seed=1), tmp_path / "no tokenizer.json", checkpoint)
    assert same(load_checkpoint(checkpoint), random_model())


@pytest.mark.slow
def test_save_checkpoint_opens_in_transformers(random_model, checkpoint, stories, tokenizer):
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert type(model).__module__.startswith("transformers.models.qwen3")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.num_parameters() == random_model().parameter_count()
    assert (model.config.bos_token_id, model.config.eos_token_id, model.generation_config.eos_token_id) == (0, 0, 0)
    theirs = AutoTokenizer.from_pretrained(checkpoint)
    assert theirs.eos_token == theirs.bos_token == "<|endoftext|>"
    assert (theirs.eos_token_id, len(theirs), theirs.model_max_length) == (0, 300, 12)
    for text in [*stories[:5], " she said , he 's", "a\n\n b  c", "🐉 <|endoftext|>"]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert theirs.encode(text) == [0, *ids]
        assert theirs.decode(ids) == text


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_save_checkpoint_generates_same_in_transformers(random_model, tokenizer_file, tmp_path, seed):
    model = random_model(ModelConfig(context_length=24, embedding_size=24, layers=3, heads=2), seed=seed)
    save_checkpoint(model, tokenizer_file, tmp_path / "checkpoint")
    prompt = [0, 40, 50, 60]
    (ours,) = generate(model, [prompt], max_new_tokens=20, temperature=1.0, top_k=1, seeds=[0])
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint").generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 4), max_new_tokens=20, do_sample=False, pad_token_id=0
    )
    assert ours == theirs[0, 4:].tolist()
    assert len(set(ours)) > 2


def test_save_checkpoint_trains_same_in_transformers(checkpoint, tokenizer_file, tmp_path):
    ours, theirs = load_checkpoint(checkpoint), AutoModelForCausalLM.from_pretrained(checkpoint)
    tokens = torch.randint(300, (5, 13), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    ours.loss(inputs, targets).backward()
    torch.nn.functional.cross_entropy(theirs(inputs).logits.flatten(0, 1), targets.flatten()).backward()
    with torch.no_grad():
        for weight in (*ours.parameters(), *theirs.parameters()):
            weight -= weight.grad
    save_checkpoint(ours, tokenizer_file, tmp_path / "after")
    after = load_file(tmp_path / "after" / WEIGHTS)
    for name, weight in theirs.named_parameters():
        torch.testing.assert_close(after[name], weight.detach(), rtol=1e-4, atol=1e-5)


def edit(checkpoint: Path, **values: Any) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_theta", 500_000.0),
        ("rope_parameters", {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}),
        ("rms_norm_eps", 1e-5),
        ("num_key_value_heads", 1),
        ("head_dim", 6),
        ("intermediate_size", 128),
        ("tie_word_embeddings", False),
        ("hidden_act", "gelu"),
        ("model_type", "llama"),
    ],
)
def test_load_checkpoint_refuses_config_of_other_model(checkpoint, key, value):
    edit(checkpoint, **{key: value})
    with pytest.raises(UserError, match=rf"config.json: not one that train writes \({key}\)"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("value", [4, 2, 0, -1, 3.0, "3", None, []])
@pytest.mark.parametrize("key", ["num_hidden_layers", "vocab_size", "hidden_size", "max_position_embeddings"])
def test_load_checkpoint_refuses_config_of_other_sizes(checkpoint, key, value):
    edit(checkpoint, **{key: value})
    words = r"config.json: not one that train writes|tensors are not those of config.json"
    if key == "max_position_embeddings" and value in (4, 2):
        words = "the checksum differs"  # rotary positions have no weights, but at others it was not trained
    with pytest.raises(UserError, match=words) as caught:
        load_checkpoint(checkpoint)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "values",
    [
        {"hidden_size": 65_536, "head_dim": 32_768, "intermediate_size": 174_784, "num_hidden_layers": 1_000},
        {"vocab_size": 2**40},
        {"vocab_size": 2**64},
        {"vocab_size": 10**30},
        {"max_position_embeddings": 65_536, "num_hidden_layers": 1_000},
    ],
)
def test_load_checkpoint_allocates_nothing_for_huge_config(checkpoint, values):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    edit(checkpoint, **values)
    with pytest.raises(
        UserError, match=r"not those of config.json|not one that train writes|not readable as JSON .* more than 64 bits"
    ):
        load_checkpoint(checkpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000, "kilobytes"


def test_load_checkpoint_refuses_config_without_key(checkpoint):
    config = json.loads((checkpoint / "config.json").read_text())
    for key in config.keys() - {"checksum"}:
        (checkpoint / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != key}))
        with pytest.raises(UserError, match="config.json: not one that train writes"):
            load_checkpoint(checkpoint)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_load_checkpoint_refuses_config_that_is_none(checkpoint, text):
    (checkpoint / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json: "):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", WEIGHTS])
def test_load_checkpoint_names_missing_file(checkpoint, name):
    (checkpoint / name).unlink()
    with pytest.raises(UserError, match=f"{name}: no such file"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_load_checkpoint_refuses_truncated_weights(checkpoint, kept):
    path = checkpoint / WEIGHTS
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match="model.safetensors: not readable"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("byte", [0, 5, 8, 20, 60])
def test_load_checkpoint_refuses_damaged_header(checkpoint, byte):
    path = checkpoint / WEIGHTS
    data = bytearray(path.read_bytes())
    assert struct.unpack("<Q", data[:8])[0] > 60
    data[byte] ^= 0x20
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"model.safetensors: (not readable|its tensors are not those)"):
        load_checkpoint(checkpoint)


def test_load_checkpoint_refuses_pickle(checkpoint):
    torch.save({"model.norm.weight": torch.ones(24)}, checkpoint / WEIGHTS)
    with pytest.raises(UserError, match="not readable"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("change", ["missing", "more", "shape", "name", "fewer layers"])
def test_load_checkpoint_refuses_other_tensors(checkpoint, change):
    tensors = load_file(checkpoint / WEIGHTS)
    norm = tensors["model.norm.weight"]
    if change == "fewer layers":
        tensors = {name: tensor for name, tensor in tensors.items() if "layers.2." not in name}
    if change in ("missing", "name"):
        del tensors["model.norm.weight"]
    tensors |= {
        "name": {"norm.weight": norm},
        "more": {"more": norm.clone()},
        "shape": {"model.norm.weight": norm[:23]},
    }.get(change, {})
    save_file(tensors, checkpoint / WEIGHTS)
    with pytest.raises(UserError, match="its tensors are not those of config.json"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32])
def test_load_checkpoint_refuses_other_dtype(checkpoint, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(checkpoint / WEIGHTS).items()}
    save_file(tensors, checkpoint / WEIGHTS)
    with pytest.raises(UserError, match="its tensors are not those of config.json"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("place", [0.01, 0.2, 0.5, 0.999])
def test_load_checkpoint_notices_one_flipped_bit(checkpoint, place):
    path = checkpoint / WEIGHTS
    data = bytearray(path.read_bytes())
    first = 8 + struct.unpack("<Q", data[:8])[0]
    data[first + int((len(data) - first) * place)] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="model.safetensors: altered since train wrote it") as caught:
        load_checkpoint(checkpoint)
    assert str(caught.value).isprintable()
    AutoModelForCausalLM.from_pretrained(checkpoint)  # what others load, they load without a word


def test_load_checkpoint_refuses_weights_of_other_training(checkpoint, random_model, tokenizer_file, tmp_path):
    save_checkpoint(random_model(seed=1), tokenizer_file, tmp_path / "other")
    (tmp_path / "other" / WEIGHTS).rename(checkpoint / WEIGHTS)
    with pytest.raises(UserError, match="model.safetensors: altered"):
        load_checkpoint(checkpoint)


def test_load_checkpoint_accepts_reordered_config(checkpoint, random_model):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted({**config, "note": "of a converter"}.items()))))
    assert same(load_checkpoint(checkpoint), random_model())


def test_save_checkpoint_is_reproducible(checkpoint, random_model, tokenizer_file, tmp_path):
    save_checkpoint(random_model(), tokenizer_file, tmp_path / "again")
    for name in FILES:
        assert (checkpoint / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
