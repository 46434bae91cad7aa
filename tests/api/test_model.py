"""The public functions as docs/api.md shows them, and what is no checkpoint."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

import tinystories
from tests.support.repository import ROOT
from tinystories.common.errors import UserError

DOCUMENT = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def test_document_runs(here, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    exec("\n".join(blocks), {})
    out = capsys.readouterr().out
    assert out.startswith("Once upon a time") and out.endswith("temperature is -1; it should be from 0, which always "
        "takes the likeliest token, to 100\n")  # fmt: skip


def test_document_names_every_function():
    public = [name for name in vars(tinystories.Model) if not name.startswith("_") and name != "score_each"]
    assert {f"model.{name}" for name in public} <= set(re.findall(r"model\.\w+", DOCUMENT))
    assert {"load", "Sampling", "UserError"} <= set(re.findall(r"tinystories\.(\w+)", DOCUMENT))


def test_every_name_is_there():
    assert all(hasattr(tinystories, name) for name in tinystories.__all__)
    assert not hasattr(tinystories, "lode")


def test_import_and_mistakes_need_no_torch():
    code = (
        "import sys, tinystories; from tinystories.cli.main import main\n"
        "assert main(['generate', 'x', '--top-k', '0']) == 1 and main(['score', 'nowhere']) == 1\n"
        "sys.exit(str({'torch', 'mlflow', 'tokenizers', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.splitlines()[-1] == "set()"


def test_generate_and_stream(checkpoint):
    model = tinystories.load(checkpoint)
    text = model.generate("One day", seed=3, length=40)
    assert text == model.generate("One day", seed=3, length=40) != model.generate("One day", seed=4, length=40)
    pieces = list(model.stream("One day", seed=3, length=40))
    assert "".join(pieces) == text and len(pieces) > 1
    assert model.generate("One day", length=40) != model.generate("One day", length=40), "each its own seed"


def test_load_takes_sampling_from_the_checkpoint(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    (copy / "generation_config.json").write_text('{"do_sample": true, "top_k": 1, "temperature": 0.5}')
    model = tinystories.load(copy)
    assert model.sampling == tinystories.Sampling(top_k=1, top_p=1.0, temperature=0.5)
    assert model.generate("One", seed=1, length=5) == model.generate("One", seed=2, length=5)
    (copy / "generation_config.json").write_text('{"top_k": 0}')
    assert "generation_config.json: top_k is 0; it should be" in refusal(copy)
    (copy / "generation_config.json").unlink()
    assert tinystories.load(copy).sampling == tinystories.Sampling(40, 1.0, 1.0)


def test_score_adds_up_its_stories(checkpoint):
    score = tinystories.load(checkpoint).score("Lily went.\r\n<|endoftext|>\n\n<|endoftext|> A tree")
    assert [story.text for story in score.stories] == ["Lily went.", "A tree"]
    assert (score.tokens, score.bytes) == (sum(story.tokens for story in score.stories), 16)
    assert score.nats == pytest.approx(sum(story.nats for story in score.stories))
    with pytest.raises(UserError, match="the text is empty"):
        tinystories.load(checkpoint).score(" \n<|endoftext|>\n")


def refusal(source: Path | str) -> str:
    with pytest.raises(UserError) as error:
        tinystories.load(source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_load_refuses_what_is_no_checkpoint(checkpoint, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    GPT2LMHeadModel(
        GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9, bos_token_id=0, eos_token_id=0)
    ).save_pretrained(tmp_path / "gpt2")
    for name in ("weights", "tokenizer"):
        half = shutil.copytree(checkpoint, tmp_path / name)
        (half / {"weights": "model.safetensors", "tokenizer": "tokenizer.json"}[name]).unlink()
    for name, words in {
        "nowhere": "nowhere: no such directory; it should be a checkpoint directory",
        "file": "file: a file; it should be",
        "empty": "empty: no checkpoint, for it has no config.json",
        "gpt2": "config.json: its architectures are ['GPT2LMHeadModel']; ",
        "weights": "model.safetensors: no such file",
        "tokenizer": "tokenizer.json: no such file",
    }.items():
        assert words in refusal(tmp_path / name)


def test_load_refuses_the_tokenizer_of_another(checkpoint, tmp_path):
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    values = json.loads((copy / "tokenizer.json").read_text(encoding="utf-8"))
    (longest,) = (name for name, number in values["model"]["vocab"].items() if number == 299)
    del values["model"]["vocab"][longest]
    values["model"]["merges"] = [pair for pair in values["model"]["merges"] if "".join(pair) != longest]
    (copy / "tokenizer.json").write_text(json.dumps(values), encoding="utf-8")
    assert "tokenizer.json has 299 entries, the model 300" in refusal(copy)
