"""GGUF files, in a real llama.cpp: the same tokens, the same text. Needs gguf and xllamacpp."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinystories.common.errors import UserError
from tinystories.export.gguf import WEIGHT_TYPES, export_gguf
from tinystories.inference.generate import generate
from tinystories.model.checkpoint import save_checkpoint
from tinystories.tokenization.tokenizer import load_tokenizer

gguf = pytest.importorskip("gguf")
xllamacpp = pytest.importorskip("xllamacpp")

ODD_TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", " \n a", "\t", "\r\n", "a  b", "a   b ", "don't I'll we've he'd DON'T", "don’t",
    "1234567890 3.14", "1234567", "!!!???\n\n\n", "x_y.z", "x1y2z3", "!!!???...",
    "\"Hi,\" she said.", "“Hi”—she…", "Zoë and François", "ĠĊ", "🐉👩‍👩‍👧",
    "日本語のテキスト", "Привет, мир", "العربية", "a\u00a0b\u200bc", "\x07\x1b[31m", "<|endoftext|>", "a<|endoftext|>b",
    "<|endof text|>", "ﬁ ½ ²", "a" * 500, " " * 100 + "b",
]  # fmt: skip


def start(path: Path) -> Any:
    """llama.cpp's server with one model, computing as exactly as it can."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path, parameters.port, parameters.verbosity = str(path), 0, 1
    parameters.n_ctx, parameters.cpuparams.n_threads, parameters.fit_params = 64, 1, False
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    return xllamacpp.Server(parameters)


@pytest.fixture(scope="module")
def f32(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    export_gguf(checkpoint, path, "f32")
    return path


@pytest.fixture(scope="module")
def server(f32: Path) -> Iterator[Any]:
    yield start(f32)


def post(server: Any, path: str, **body: Any) -> Any:
    request = urllib.request.Request(server.listening_address + path, json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_export_gguf_same_ids(server, checkpoint, texts):
    tokenizer = load_tokenizer(checkpoint / "tokenizer.json")
    for text in [*texts, *ODD_TEXTS]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert post(server, "/tokenize", content=text, add_special=True)["tokens"] == [0, *ids], text
        assert post(server, "/detokenize", tokens=ids)["content"] == text


def test_export_gguf_same_greedy_text(server, checkpoint, model, texts):
    tokenizer = load_tokenizer(checkpoint / "tokenizer.json")
    different = set()
    for text in texts[:10]:
        prompt = text[:30]
        ids = [0, *tokenizer.encode(prompt, add_special_tokens=False).ids]
        (ours,) = generate(model, [ids], max_new_tokens=30, temperature=1.0, top_k=1, seeds=[0])
        theirs = post(server, "/completion", prompt=prompt, n_predict=30, temperature=0, return_tokens=True)
        assert theirs["tokens"] == ours
        different |= set(ours)
    assert len(different) > 20


def test_export_gguf_says_how_to_sample_and_chat(server):
    with urllib.request.urlopen(f"{server.listening_address}/props", timeout=60) as answer:
        defaults = json.load(answer)["default_generation_settings"]["params"]
    assert defaults["temperature"] == pytest.approx(0.8)
    assert (defaults["top_k"], defaults["top_p"], defaults["min_p"]) == (40, 1.0, 0.0)
    messages = [{"role": "user", "content": "Once upon"}, {"role": "assistant", "content": " a time"}]
    assert post(server, "/apply-template", messages=messages)["prompt"] == "Once upon a time"


def tensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors
    }


@pytest.mark.parametrize("weight_type", WEIGHT_TYPES)
def test_export_gguf_every_type(weight_type, checkpoint, f32, tmp_path):
    path = tmp_path / "new folder" / "model.gguf"
    export_gguf(checkpoint, path, weight_type)
    exact, found = tensors(f32), tensors(path)
    assert found.keys() == exact.keys()
    for name, array in exact.items():
        error = {"f32": 0, "f16": 2**-11, "q8_0": 1 / 250}[weight_type] if array.ndim > 1 else 0
        assert np.abs(found[name] - array).max() <= error * np.abs(array).max()
    assert post(start(path), "/v1/completions", prompt="Once upon", max_tokens=5)["usage"]["completion_tokens"] > 0
    assert path.stat().st_size < {"f32": 1.1, "f16": 0.6, "q8_0": 0.4}[weight_type] * f32.stat().st_size


def test_export_gguf_refuses_q8_0_of_other_shapes(random_model, tokenizer_file, tmp_path):
    save_checkpoint(random_model(), tokenizer_file, tmp_path / "checkpoint")
    with pytest.raises(UserError, match=r"embedding of 24 numbers, but q8_0 holds rows of multiples of 32; take f16"):
        export_gguf(tmp_path / "checkpoint", tmp_path / "model.gguf", "q8_0")
    assert not (tmp_path / "model.gguf").exists()


def test_export_gguf_keeps_the_older_file_on_an_error(checkpoint, tmp_path, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "model.gguf"
    path.write_bytes(b"older")
    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", fail)
    with pytest.raises(OSError, match=r"No space left"):
        export_gguf(checkpoint, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.gguf"]
    assert path.read_bytes() == b"older"


def test_export_gguf_refuses_tokenizer_of_another_model(checkpoint, tokenizer_file, tmp_path):
    (tmp_path / "model").mkdir()
    for path in checkpoint.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "model" / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    with pytest.raises(UserError, match=r"model: tokenizer.json has 300 entries, the model 600; they are not of one"):
        export_gguf(tmp_path / "model", tmp_path / "model.gguf")


def test_export_gguf_names_missing_extra(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match=r"gguf is not installed; pip install .*\[export\]"):
        export_gguf(checkpoint, tmp_path / "model.gguf")


def test_export_command_imports_no_torch(checkpoint, tmp_path):
    code = (
        "import sys; from tinystories.cli.main import main\n"
        f"status = main(['export', 'gguf', '--type', 'q8_0', {str(checkpoint)!r}])\n"
        "sys.exit(status or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "models/tinystories-q8_0.gguf: 0.2 MB\n", "")
