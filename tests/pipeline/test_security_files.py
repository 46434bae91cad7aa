"""Files made to do harm run nothing: tensors, tokenizers, tokens, params.yaml."""

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinystories.common import paths
from tinystories.common.artifacts import TokenFile
from tinystories.common.errors import UserError
from tinystories.common.files import checksum, sha256_of
from tinystories.common.params_file import load_params
from tinystories.model.checkpoint import load_checkpoint
from tinystories.tokenization.token_files import open_tokens
from tinystories.tokenization.tokenizer import load_tokenizer
from tinystories.training.resume import ResumeCheckpoint


class Harm:
    """Unpickled, it leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm").absolute(),)


def harmful_header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TENSOR_FILES = {
    "a pickle": pickle.dumps(Harm()),
    "a longer header than the file": struct.pack("<Q", 2**63) + b"{}",
    "an endless header": struct.pack("<Q", 10**6) + b"[" * 10**6,
    "offsets outside": harmful_header({"a": {**TENSOR, "data_offsets": [0, 2**40]}}, bytes(8)),
    "offsets before": harmful_header({"a": {**TENSOR, "data_offsets": [-8, 0]}}, bytes(8)),
    "a shape of 2^80": harmful_header({"a": {**TENSOR, "shape": [2**40, 2**40]}}, bytes(8)),
    "overlapping": harmful_header({"a": TENSOR, "b": TENSOR}, bytes(8)),
    "a path": harmful_header({"../../harm": TENSOR, "__metadata__": {"format": "../../harm"}}, bytes(8)),
    "a class": harmful_header({"a": {**TENSOR, "dtype": "os.system"}}, bytes(8)),
}


def test_harm_leaves_a_mark(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harm()))
    assert Path("harm").exists()


@pytest.mark.parametrize("data", TENSOR_FILES.values(), ids=TENSOR_FILES)
def test_load_refuses_harmful_tensors(empty, finished, data, capsys):
    shutil.copytree(finished.path / "models/checkpoint", paths.CHECKPOINT)
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt", "training_args.bin"):
        (paths.CHECKPOINT / name).write_bytes(data)
    with pytest.raises(UserError, match=r"^models/checkpoint/model\.safetensors: "):
        load_checkpoint(paths.CHECKPOINT)

    state = empty / ".state/train/key/step-000000000001"
    state.mkdir(parents=True)
    (state / "tensors.safetensors").write_bytes(data)
    (state / "state.pt").write_bytes(data)
    values = {"started": "then"}
    saved = {"checksum": checksum(["key", values], state / "tensors.safetensors"), "state": values}
    (state / "trainer_state.json").write_text(json.dumps(saved))
    assert ResumeCheckpoint(state.parent).load({}) is None


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Harm()),
        b"[" * 100_000,
        b'{"version": "1.0", "model": {"type": "os.system"}}',
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"../../harm": 0}, "merges": []}}',
        b'{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "os.system"}, "model": null}',
    ],
    ids=["a pickle", "endless", "a class", "a path", "another class"],
)
def test_load_tokenizer_refuses_harm(empty, data):
    Path("tokenizer.json").write_bytes(data)
    with pytest.raises(UserError, match=r"^tokenizer\.json: "):
        load_tokenizer(Path("tokenizer.json"))


def test_open_tokens_reads_only_numbers(empty):
    Path("train.bin").write_bytes(data := pickle.dumps(Harm()).ljust(200, b"\0"))
    tokens = open_tokens(
        Path("train.bin"), TokenFile(tokens=100, stories=1, bytes=1, sha256=sha256_of(Path("train.bin"))), 65_536
    )
    assert tokens.tobytes() == data


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch harm']",
        "!!python/object/new:os.system ['touch harm']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:subprocess.check_output [['touch', 'harm']]",
        "!harm 1",
    ],
)
def test_load_params_runs_no_tags(empty, value):
    Path("params.yaml").write_text(f"seed: {value}\n")
    with pytest.raises(UserError, match=r"^params\.yaml: line 1, column 7: what begins with ! is a tag to YAML"):
        load_params()
    with pytest.raises(yaml.YAMLError):  # the parser's safe half, too
        yaml.safe_load(Path("params.yaml").read_text())
