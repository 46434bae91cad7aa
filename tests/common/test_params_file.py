"""load_params: values that are refused before any work, each in one line with the key and what would be right."""

import subprocess
import sys

import pytest

from tests.support.params import COMMITTED, put, refusal, renamed, without
from tinystories.common.errors import UserError
from tinystories.common.params_file import load_params

BAD = [
    # unknown and missing keys
    (renamed("model.layers", "layer"), ["model.layer", "not a known key", "did you mean layers?"]),
    (renamed("model", "modle"), ["modle", "did you mean model?"]),
    (renamed("data.tinystories.edition", "editions"), ["data.tinystories.editions", "did you mean edition?"]),
    (COMMITTED + "something: 1\n", ["something", "known are seed, data"]),
    (COMMITTED + "model.layers: 1\n", ["model.layers is not a known key"]),
    (put("train.compile", "auto\n  dropout: 0.1"), ["train.dropout"]),
    (without("seed"), ["seed is missing"]),
    (without("model.heads"), ["model.heads is missing"]),
    (without("mlflow"), ["mlflow is missing"]),
    # wrong types
    (put("seed", "one"), ["seed is 'one'", "a whole number"]),
    (put("seed", "yes"), ["seed is 'yes'", "a whole number"]),
    (put("seed", "true"), ["seed is true", "a whole number"]),
    (put("seed", "True"), ["seed is true", "a whole number"]),
    (put("seed", ""), ["seed is empty", "a whole number"]),
    (put("seed", "2020-01-02"), ["seed is 2020-01-02", "a whole number"]),
    (put("seed", "2026-01-02 03:04:05"), ["seed is 2026-01-02 03:04:05", "a whole number"]),
    (put("seed", "2:08"), ["seed is '2:08'", "a whole number"]),
    (put("seed", "0x"), ["seed is '0x'", "a whole number"]),
    (put("seed", "٣"), ["seed is '٣'", "a whole number"]),
    (put("seed", "[" * 400 + "]" * 400), ["seed is [[[", "...", "a whole number"]),
    (put("model.layers", '"8"'), ["model.layers is '8'", "without quotes"]),
    (put("model.layers", "8.0"), ["model.layers is 8.0", "a whole number"]),
    (put("model.layers", "[8]"), ["model.layers is [8]", "a whole number"]),
    (put("model", "8"), ["model is 8", "a section"]),
    (put("train", ""), ["train is empty", "a section"]),
    (put("train.learning_rate", '"0.02"'), ["train.learning_rate is '0.02'", "a number, without quotes"]),
    (put("train.learning_rate", "0,02"), ["train.learning_rate is '0,02'", "a number"]),
    (put("train.learning_rate", "2 %"), ["train.learning_rate is '2 %'", "it should be a number"]),
    (put("train.gradient_clip", "no"), ["train.gradient_clip is 'no'; it should be a number"]),
    (put("train.gradient_clip", "none"), ["train.gradient_clip is 'none'; it should be a number"]),
    (put("train.gradient_clip", "~"), ["train.gradient_clip is empty", "a number"]),
    (put("train.gradient_clip", "off"), ["train.gradient_clip is 'off'", "a number"]),
    (put("train.gradient_clip", "{}"), ["train.gradient_clip is {}", "a number"]),
    (put("data.embedded.stories", "1:30.5"), ["data.embedded.stories is '1:30.5'", "a whole number"]),
    (put("train.deterministic", "'yes'"), ["train.deterministic is 'yes'", "true or false"]),
    (put("train.learning_rate", ".nan"), ["train.learning_rate is nan", "finite"]),
    (put("train.weight_decay", ".inf"), ["train.weight_decay is inf", "finite"]),
    (put("train.weight_decay", "1.0e+400"), ["train.weight_decay is inf", "finite"]),
    (put("train.weight_decay", "1e400"), ["train.weight_decay is inf", "finite"]),
    (put("train.compile", "1"), ["train.compile is 1", "'auto', 'on' or 'off'"]),
    (put("train.compile", "no"), ["train.compile is 'no'", "'auto', 'on' or 'off'"]),
    (put("train.compile", "ON"), ["train.compile is 'ON'", "'auto', 'on' or 'off'"]),
    (put("mlflow.experiment", "7"), ["mlflow.experiment is 7", "text"]),
    (put("mlflow.experiment", '""'), ["mlflow.experiment is ''", "not be empty"]),
    (put("sample.prompts", "Once"), ["sample.prompts is 'Once'", "a list"]),
    (put("sample.prompts", "[a, 5]"), ["sample.prompts.1 is 5", "text"]),
    (put("sample.prompts", '[a, " "]'), ["sample.prompts.1 is ' '", "not be empty"]),
    (put("sample.prompts", '["a\\nb"]'), ["sample.prompts.0 is 'a\\nb'", "one line"]),
    (put("sample.prompts", '["a\\0b"]'), ["sample.prompts.0 is 'a\\x00b'", "control characters"]),
    (put("sample.prompts", "{a: b}"), ["sample.prompts is {'a': 'b'}", "a list"]),
    (put("sample.prompts", "[[a]]"), ["sample.prompts.0 is ['a']", "text"]),
    (put("mlflow.tracking_uri", '"a\\nb"'), ["mlflow.tracking_uri is 'a\\nb'", "one line"]),
    (put("mlflow.tracking_uri", ""), ["mlflow.tracking_uri is empty", "text"]),
    (
        put("mlflow.tracking_uri", "file:///tmp/mlruns"),
        ["mlflow.tracking_uri is 'file:///tmp/mlruns'", "sqlite:///FILE"],
    ),
    (put("mlflow.tracking_uri", "mlruns"), ["mlflow.tracking_uri is 'mlruns'", "http(s)://HOST:PORT"]),
    (put("mlflow.tracking_uri", "ftp://host/x"), ["mlflow.tracking_uri is 'ftp://host/x'", "http(s)://HOST:PORT"]),
    (put("mlflow.tracking_uri", "bob:hunter2@host"), ["mlflow.tracking_uri is an address (not shown)"]),
    (put("mlflow.experiment", "x" * 257), ["mlflow.experiment is 'xxx", "has 257 characters", "at most 256"]),
    (put("data.files.train", '"a\\0"'), ["data.files.train is 'a\\x00'", "control characters"]),
    (put("data.files.train", '" "'), ["data.files.train is ' '", "not be empty"]),
    (put("data.files.valid", "https://me:hunter2@host/a"), ["data.files.valid is an address (not shown)"]),
    (put("data.files.column", "7"), ["data.files.column is 7", "text"]),
    (put("data.files.column", '""'), ["data.files.column is ''", "not be empty"]),
    (put("data.files.documents", "files"), ["data.files.documents is 'files'", "'auto', 'blank_lines' or 'lines'"]),
    (put("data.files.valid", "[a.txt, b.txt]"), ["data.files.valid is ['a.txt', 'b.txt']", "text"]),
    (put("sample.prompts", "[" + "a, " * 101 + "]"), ["sample.prompts", "at most 100"]),
    # out of range
    (put("seed", "-1"), ["seed is -1", "at least 0"]),
    (put("seed", str(2**63)), [f"seed is {2**63}", f"at most {2**63 - 1}"]),
    (put("tokenizer.vocab_size", "256"), ["tokenizer.vocab_size is 256", "at least 257"]),
    (put("tokenizer.vocab_size", "65537"), ["tokenizer.vocab_size is 65537", "at most 65536"]),
    (put("model.context_length", "1"), ["model.context_length is 1", "at least 2"]),
    (put("model.context_length", "100000"), ["model.context_length is 100000", "at most 65536"]),
    (put("model.layers", "0"), ["model.layers is 0", "at least 1"]),
    (put("model.layers", "-8"), ["model.layers is -8", "at least 1"]),
    (put("model.embedding_size", "0"), ["model.embedding_size is 0", "at least 2"]),
    (put("model.heads", "0"), ["model.heads is 0", "at least 1"]),
    (put("train.batch_size", "0"), ["train.batch_size is 0", "at least 1"]),
    (
        put("train.steps_per_epoch", "99999999999999999999"),
        ["train.steps_per_epoch is 99999999999999999999", "at most"],
    ),
    (put("train.cooldown", "-0.1"), ["train.cooldown is -0.1", "at least 0"]),
    (put("train.weight_decay", "-1"), ["train.weight_decay is -1", "at least 0"]),
    (put("train.log_every", "0"), ["train.log_every is 0", "at least 1"]),
    (put("evaluate.batch_size", "-1"), ["evaluate.batch_size is -1", "at least 1"]),
    (put("data.embedded.stories", "99"), ["data.embedded.stories is 99", "at least 100"]),
    (put("sample.max_new_tokens", "0"), ["sample.max_new_tokens is 0", "at least 1"]),
    (put("train.epochs", "0"), ["train.epochs is 0", "at least 1"]),
    (put("train.learning_rate", "0"), ["train.learning_rate is 0", "greater than 0"]),
    (put("checks.max_overlap", "1.5"), ["checks.max_overlap is 1.5", "at most 1"]),
    (put("checks.max_duplicates", "-0.5"), ["checks.max_duplicates is -0.5", "at least 0"]),
    (put("checks.min_bytes_per_token", "0.5"), ["checks.min_bytes_per_token is 0.5", "at least 1"]),
    (put("evaluate.stories", "1001"), ["evaluate.stories is 1001", "at most 1000"]),
    (put("evaluate.max_bits_per_byte", "0"), ["evaluate.max_bits_per_byte is 0", "greater than 0"]),
    (put("checks.max_mojibake", "-1"), ["checks.max_mojibake is -1", "at least 0"]),
    (put("train.warmup_steps", "-1"), ["train.warmup_steps is -1", "at least 0"]),
    (put("train.warmup_steps", "0.01"), ["train.warmup_steps is 0.01", "a whole number"]),
    (renamed("train.warmup_steps", "warmup"), ["train.warmup is a share", "should be train.warmup_steps"]),
    (put("train.kept_trunks", "-1"), ["train.kept_trunks is -1", "at least 0"]),
    (put("train.kept_trunk_gigabytes", "-1"), ["train.kept_trunk_gigabytes is -1", "at least 0"]),
    (put("train.devices", "0"), ["train.devices is 0", "auto or a whole number from 1"]),
    (put("train.micro_batch_size", "0"), ["train.micro_batch_size is 0", "auto or a whole number from 1"]),
    (put("train.save_every", "0"), ["train.save_every is 0", "greater than 0"]),
    (put("sample.temperature", "0"), ["sample.temperature is 0", "greater than 0"]),
    (put("sample.top_k", "0"), ["sample.top_k is 0", "at least 1"]),
    (put("data.files.held_out", "0.6"), ["data.files.held_out is 0.6", "at most 0.5"]),
    # no such choice
    (put("data.source", "openai"), ["data.source is 'openai'", "'tinystories', 'embedded' or 'files'"]),
    (put("publish.model", "first"), ["publish.model is 'first'", "'last' or 'best'"]),
    (put("data.tinystories.edition", "v3"), ["data.tinystories.edition is 'v3'", "'v2' or 'v1'"]),
    (put("train.device", "tpu"), ["train.device is 'tpu'", "'auto', 'cuda', 'mps' or 'cpu'"]),
    (put("evaluate.precision", "auto"), ["evaluate.precision is 'auto'", "'bf16' or 'fp32'"]),
    # values that do not fit each other
    (put("model.heads", "7"), ["model.embedding_size is 256", "model.heads is 7", "14"]),
    (put("model.embedding_size", "16"), ["model.embedding_size is 16", "model.heads is 16", "32"]),
    (put("train.devices", "5"), ["train.batch_size is 32", "train.devices is 5", "multiple"]),
    (put("train.micro_batch_size", "5"), ["train.micro_batch_size is 5", "should divide", "(32)"]),
    (
        put("model.layers", "1000").replace("embedding_size: 256", "embedding_size: 65536"),
        ["model.embedding_size is 65536", "model.layers is 1000", "5.2e+13 parameters", "at most 1e+10"],
    ),
    (put("train.batch_size", "1000000"), ["train.batch_size is 1000000", "model.context_length is 128", "16,777,216"]),
    (put("evaluate.batch_size", "131073"), ["evaluate.batch_size is 131073", "model.context_length is 128"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[" ".join(expected)[:60] for _, expected in BAD])
def test_load_params_refuses_bad_value(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    assert all(words in message for words in expected), message
    assert len(message) < 400


def test_load_params_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no such file here \(.+\); run the stage from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_load_params_directory(tmp_path):
    with pytest.raises(UserError, match="not readable"):
        load_params(tmp_path)


def test_load_params_imports_nothing_heavy():
    script = "import sys, tinystories.common.params_file, tinystories.common.stage; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "pandas", "numpy", "tokenizers", "matplotlib"} & set(result.stdout.split())
