"""params.yaml: the committed file, and what is refused before any work."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.repository import ROOT
from tinystories.common.errors import UserError
from tinystories.common.params import Params
from tinystories.common.params_file import load_params

COMMITTED = (ROOT / "params.yaml").read_text(encoding="utf-8")

CONTRACT = """
    seed
    data.source data.tinystories.edition data.embedded.stories data.files.train data.files.valid
    tokenizer.vocab_size
    model.context_length model.embedding_size model.layers model.heads
    train.batch_size train.epochs train.steps_per_epoch train.learning_rate train.device train.precision train.compile
    sample.top_k sample.temperature sample.max_new_tokens sample.prompts
    mlflow.experiment mlflow.tracking_uri
""".split()


def lines_by_key(text: str) -> dict[str, int]:
    """The number of the line on which each key stands, by its dotted name."""
    found: dict[str, int] = {}
    sections: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines()):
        if match := re.match(r"( *)(\w+):", line):
            indent = len(match[1])
            sections = [(depth, name) for depth, name in sections if depth < indent] + [(indent, match[2])]
            found[".".join(name for _, name in sections)] = number
    return found


def put(key: str, value: str) -> str:
    """The committed file with this text as the value of `key`."""
    lines = COMMITTED.splitlines()
    number = lines_by_key(COMMITTED)[key]
    lines[number] = lines[number].split(":")[0] + ": " + value
    following = number + 1
    while following < len(lines) and lines[following].startswith(
        " " * (len(lines[number]) - len(lines[number].lstrip()) + 1)
    ):
        following += 1  # what stood under the key goes too
    return "\n".join([*lines[: number + 1], *lines[following:]]) + "\n"


def without(key: str) -> str:
    marked = put(key, "GONE")
    return "".join(line for line in marked.splitlines(keepends=True) if not line.endswith("GONE\n"))


def renamed(key: str, name: str) -> str:
    lines = COMMITTED.splitlines(keepends=True)
    number = lines_by_key(COMMITTED)[key]
    lines[number] = lines[number].replace(key.split(".")[-1] + ":", name + ":", 1)
    return "".join(lines)


def load(tmp_path: Path, text: str | bytes) -> Params:
    path = tmp_path / "params.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_params(path)


def refusal(tmp_path: Path, text: str | bytes) -> str:
    """The message of the refusal, without the file's name, which it has to begin with."""
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith(f"{tmp_path / 'params.yaml'}: ")
    return message.removeprefix(f"{tmp_path / 'params.yaml'}: ")


def test_the_committed_file_is_the_reference_run():
    params = load_params(ROOT / "params.yaml")
    assert (params.tokenizer.vocab_size, params.data.source, params.data.tinystories.edition) == (
        10_000,
        "tinystories",
        "v2",
    )
    model = params.model
    assert (model.context_length, model.embedding_size, model.layers, model.heads) == (128, 256, 8, 16)
    train = params.train
    assert (train.batch_size, train.epochs, train.steps_per_epoch, train.steps) == (32, 2, 20_000, 40_000)
    assert train.steps * train.batch_size * model.context_length == 163_840_000


def test_every_key_of_the_schema_stands_in_the_file_and_nothing_else():
    def keys(section: Any, prefix: str = "") -> set[str]:
        inside = {f"{prefix}{key}": getattr(section, key) for key in type(section).model_fields}
        nested = (keys(value, f"{key}.") for key, value in inside.items() if hasattr(value, "model_fields_set"))
        return set(inside).union(*nested)

    assert keys(load_params(ROOT / "params.yaml")) == set(lines_by_key(COMMITTED))


def test_keys_that_others_rely_on():
    assert set(CONTRACT) <= set(lines_by_key(COMMITTED))


def test_every_value_has_a_comment():
    lines = COMMITTED.splitlines()
    for key, number in lines_by_key(COMMITTED).items():
        code, _, comment = lines[number].partition(" #")
        is_section = code.rstrip().endswith(":") and key != "sample.prompts"
        assert is_section or comment.strip(), f"{key} has no comment"


def test_sizes_that_follow_from_the_shape(tmp_path):
    model = load(tmp_path, COMMITTED).model
    assert (model.head_size, model.mlp_size) == (16, 704)


def line_of(key: str, further: int = 0) -> str:
    return f"line {lines_by_key(COMMITTED)[key] + 1 + further}, column "


AFTER_LAST = f"line {len(COMMITTED.splitlines()) + 1}, column "

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
    (put("seed", "12 # and\n  34"), [line_of("seed", 1)]),
    (put("seed", "&a 5"), [line_of("seed"), "an anchor to YAML"]),
    (put("mlflow.experiment", "&a:b"), [line_of("mlflow.experiment"), "an anchor to YAML"]),  # text to PyYAML only
    (put("sample.prompts", "[*The end*]"), [line_of("sample.prompts"), "an alias to YAML", "put text in quotes"]),
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
    # numbers that are not written plainly
    (put("seed", "0200"), ["seed is 0200, which YAML takes for 128 or 200; write 128 or 200"]),
    (put("seed", "-0200"), ["seed is -0200, which YAML takes for -128 or -200"]),
    (put("seed", "08"), ["seed is 08, which YAML takes for text or 8; write 8"]),
    (put("seed", "00"), ["seed is 00, which YAML takes for 0; write 0"]),
    (put("seed", "0o200"), ["seed is 0o200, which YAML takes for text or 128; write 128"]),
    (put("seed", "0x80"), ["seed is 0x80, which YAML takes for 128; write 128"]),
    (put("seed", "0b11"), ["seed is 0b11, which YAML takes for 3; write 3"]),
    (put("train.steps_per_epoch", "1_000"), ["train.steps_per_epoch is 1_000, which YAML takes for 1000; write 1000"]),
    (put("train.steps_per_epoch", "1e3"), ["train.steps_per_epoch is 1e3, which YAML takes for text or 1000.0"]),
    (
        put("train.learning_rate", "1e-3"),
        ["train.learning_rate is 1e-3, which YAML takes for text or 0.001; write 0.001"],
    ),
    (
        put("train.learning_rate", "2E-2"),
        ["train.learning_rate is 2E-2, which YAML takes for text or 0.02; write 0.02"],
    ),
    (put("train.learning_rate", "1.0e1"), ["train.learning_rate is 1.0e1", "text or 10.0; write 10.0"]),
    (put("train.learning_rate", "00.02"), ["train.learning_rate is 00.02, which YAML takes for 0.02; write 0.02"]),
    (put("train.learning_rate", "0.0_2"), ["train.learning_rate is 0.0_2, which YAML takes for 0.02; write 0.02"]),
    (put("train.weight_decay", "+.5"), ["train.weight_decay is +.5, which YAML takes for text or 0.5; write 0.5"]),
    (put("mlflow.experiment", "0200"), ["mlflow.experiment is 0200", "128 or 200; write '0200', in quotes"]),
    (put("mlflow.experiment", "1_000"), ["mlflow.experiment is 1_000", "write '1_000', in quotes"]),
    (put("sample.prompts", "[a, 1e3]"), ["sample.prompts.1 is 1e3", "write '1e3', in quotes"]),
    (put("seed", "+_"), [line_of("seed"), "could not convert"]),
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
    (put("sample.prompts", "[a, ]\n    - b"), [line_of("sample.prompts", 1)]),
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
    (put("train.warmup", "1.5"), ["train.warmup is 1.5", "at most 1"]),
    (put("train.save_every", "0"), ["train.save_every is 0", "greater than 0"]),
    (put("sample.temperature", "0"), ["sample.temperature is 0", "greater than 0"]),
    (put("sample.top_k", "0"), ["sample.top_k is 0", "at least 1"]),
    (put("data.files.held_out", "0.6"), ["data.files.held_out is 0.6", "at most 0.5"]),
    # no such choice
    (put("data.source", "openai"), ["data.source is 'openai'", "'tinystories', 'embedded' or 'files'"]),
    (put("data.tinystories.edition", "v3"), ["data.tinystories.edition is 'v3'", "'v2' or 'v1'"]),
    (put("train.device", "tpu"), ["train.device is 'tpu'", "'auto', 'cuda', 'mps' or 'cpu'"]),
    (put("evaluate.precision", "auto"), ["evaluate.precision is 'auto'", "'bf16' or 'fp32'"]),
    # values that do not fit each other
    (put("model.heads", "7"), ["model.embedding_size is 256", "model.heads is 7", "14"]),
    (put("model.embedding_size", "16"), ["model.embedding_size is 16", "model.heads is 16", "32"]),
    (put("train.warmup", "0.6"), ["train.warmup is 0.6", "train.cooldown is 0.5", "not exceed 1"]),
    (put("data.source", "files"), ["data.files.train is empty", "data.source is files"]),
    (
        put("model.layers", "1000").replace("embedding_size: 256", "embedding_size: 65536"),
        ["model.embedding_size is 65536", "model.layers is 1000", "5.2e+13 parameters", "at most 1e+10"],
    ),
    (put("train.batch_size", "1000000"), ["train.batch_size is 1000000", "model.context_length is 128", "16,777,216"]),
    (put("evaluate.batch_size", "131073"), ["evaluate.batch_size is 131073", "model.context_length is 128"]),
    # not the YAML that is meant
    (COMMITTED + "seed: 1\n", [AFTER_LAST, "'seed' stands twice"]),
    (put("model.heads", "16\n  heads: 3"), [line_of("model.heads", 1), "'heads' stands twice"]),
    (COMMITTED + "no: 1\n", ["no is not a known key"]),
    (COMMITTED + "true: 1\n", [AFTER_LAST, "the key True should be text"]),
    (COMMITTED + "1: 1\n", [AFTER_LAST, "the key 1 should be text"]),
    (COMMITTED + "0200: 1\n", [AFTER_LAST, "the key 0200 should be text"]),
    (COMMITTED + "~: 1\n", [AFTER_LAST, "the key None should be text"]),
    (COMMITTED + "? [1]\n: 2\n", [AFTER_LAST, "the key [1] should be text"]),
    (put("seed", '!!python/object/apply:os.system ["echo no"]'), [line_of("seed"), "a tag to YAML"]),
    (put("seed", "!!binary aGVsbG8="), [line_of("seed"), "a tag to YAML"]),
    (put("seed", "!!timestamp never"), [line_of("seed"), "a tag to YAML"]),
    (put("sample.prompts", "[!Help me]"), [line_of("sample.prompts"), "put text in quotes"]),
    ("%YAML 1.1\n---\n" + COMMITTED, ["line 1, column 1: ", "a directive to YAML"]),
    (put("seed", "1\n<<: {seed: 2}"), [line_of("seed", 1), "merge"]),
    (put("mlflow.experiment", "a: b"), [line_of("mlflow.experiment"), "mapping values are not allowed"]),
    (COMMITTED.replace("  vocab_size", "\tvocab_size"), [line_of("tokenizer.vocab_size"), r"'\t'"]),
    (COMMITTED + "--- {a: 1}\n", [AFTER_LAST, "another document"]),
    (COMMITTED + "\0", ["#x0000"]),
    ("", ["found nothing", "expected sections"]),
    ("---\n...\n", ["found nothing"]),
    ("{}\n", ["seed is missing", "and 7 more"]),
    ("# only a comment\n", ["found nothing"]),
    ("- seed: 1\n", ["found a list"]),
    ("1337\n", ["found a int"]),
    ("a: " + "[" * 90_000, ["nested too deeply"]),
    ("#" * 10_000_000, ["10,000,000 bytes", "100,000"]),
    (COMMITTED.encode("utf-16"), ["not UTF-8 at byte 0"]),
    (put("mlflow.experiment", "caf").encode() + b"  # caf\xe9\n", ["not UTF-8 at byte"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[" ".join(expected)[:60] for _, expected in BAD])
def test_a_bad_file_is_refused_in_one_line(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    assert all(words in message for words in expected), message
    assert len(message) < 400


ALIASES = ", ".join(f"&{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True))


STRANGE = {
    "tag of control characters": (put("seed", "!%1b[31mred"), line_of("seed")),
    "alias of many characters": (put("seed", "*" + "a" * 900), line_of("seed")),
    "very long unplain number": (put("seed", "0" + "7" * 900), "seed is 0777"),
    "key of many entries": (COMMITTED + f"? [{'x, ' * 9_000}]\n: 1\n", AFTER_LAST),
    "list of many entries": (put("seed", f"[{'x, ' * 9_000}]"), "seed is ["),
    "key of two lines": (COMMITTED + '"a\\nb": 1\n', "not a known key"),
    "very long key": (COMMITTED + "x" * 900 + ": 1\n", "not a known key"),
    "half a character": (put("mlflow.experiment", '"\\ud800"'), line_of("mlflow.experiment")),
    "other line end": (put("sample.prompts", '["a\\u2028b"]'), "sample.prompts.0"),
    "very long number": (put("seed", "9" * 5_000), line_of("seed")),
    "no such day": (put("seed", "2020-13-45"), line_of("seed")),
    "a billion entries": (put("seed", f"[&a [x, x, x, x, x, x, x, x, x, x], {ALIASES}]"), line_of("seed")),
}


@pytest.mark.parametrize(("text", "expected"), STRANGE.values(), ids=STRANGE)
def test_a_strange_file_is_refused_in_one_line_too(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    assert expected in message
    assert len(message) < 400


GOOD = [
    ("train.compile", "on", "on"),  # a bare `on` is true in YAML 1.1
    ("train.compile", "off", "off"),
    ("train.compile", "true", "on"),
    ("train.compile", "false", "off"),
    ("train.compile", '"on"', "on"),
    ("train.learning_rate", "1", 1.0),
    ("train.learning_rate", "1.0e-3", 0.001),
    ("train.learning_rate", "1.e-3", 0.001),
    ("train.learning_rate", ".5", 0.5),
    ("train.learning_rate", "+5.", 5.0),
    ("train.learning_rate", "1e-05", 0.00001),  # as DVC writes it for -S train.learning_rate=1e-5
    ("train.weight_decay", "-0.0", 0.0),
    ("train.weight_decay", "0", 0.0),
    ("train.warmup", "0", 0.0),
    ("train.cooldown", "0", 0.0),
    ("train.gradient_clip", "0", 0.0),
    ("seed", "0", 0),
    ("seed", str(2**63 - 1), 2**63 - 1),
    ("tokenizer.vocab_size", "65536", 65536),
    ("sample.prompts", "[]", ()),
    ("sample.prompts", '["a \\"quoted\\" 🐉"]', ('a "quoted" 🐉',)),
    ("sample.prompts", "[No, yes, 2:08, 1.2.3]", ("No", "yes", "2:08", "1.2.3")),
    ("mlflow.experiment", "off", "off"),  # as DVC writes it for -S mlflow.experiment=off
    ("mlflow.experiment", "'0200'", "0200"),
    ("mlflow.tracking_uri", "https://example.org", "https://example.org"),
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD, ids=[f"{key} {text}" for key, text, _ in GOOD])
def test_a_good_value_is_taken(tmp_path, key, text, value):
    found: Any = load(tmp_path, put(key, text))
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


SCALARS = st.text("0123456789_-+.eExXobBinfaNIyostrulm:~<=,'\" []{}#&*\t", max_size=8) | st.one_of(
    st.integers().map(str), st.floats().map(str), st.floats().map(lambda number: f"{number:.3e}"), st.dates().map(str)
)


@settings(max_examples=300)
@given(st.sampled_from(["seed", "train.weight_decay", "mlflow.experiment", "sample.prompts"]), SCALARS)
@example("mlflow.experiment", "off")
@example("mlflow.experiment", "1:30")
@example("train.weight_decay", "1e-05")
def test_dvc_reads_the_same_value(tmp_path_factory, key, text):
    """Else it would take a result from its cache that was made with another value."""
    directory = tmp_path_factory.getbasetemp()
    content = put(key, f"[{text}]" if key == "sample.prompts" else text)
    try:
        ours: Any = load(directory, content)
    except UserError:
        return
    theirs: Any = parse_yaml(content, "params.yaml")
    for part in key.split("."):
        ours, theirs = getattr(ours, part), theirs[part]
    assert ours == (tuple(theirs) if key == "sample.prompts" else theirs)


def test_the_phases_may_fill_the_whole_training(tmp_path):
    assert load(tmp_path, put("train.warmup", "0.5")).train.warmup == 0.5


def test_files_as_source(tmp_path):
    text = put("data.source", "files").replace('train: ""', "train: my/*.txt")
    assert load(tmp_path, text).data.files.train == "my/*.txt"


def test_yaml_in_another_style_says_the_same(tmp_path):
    flow = yaml.safe_dump(yaml.safe_load(COMMITTED), default_flow_style=True)
    assert load(tmp_path, flow) == load(tmp_path, COMMITTED.replace("\n", "\r\n")) == load(tmp_path, COMMITTED)
    assert load(tmp_path, b"\xef\xbb\xbf" + COMMITTED.encode()) == load(tmp_path, COMMITTED)


def test_a_missing_file_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(UserError, match=r"no such file here \(.+\); run the stage from the repository's root"):
        load_params(tmp_path / "params.yaml")


def test_a_directory_in_place_of_the_file(tmp_path):
    with pytest.raises(UserError, match="not readable"):
        load_params(tmp_path)


def test_refusals_are_quick_because_nothing_heavy_is_imported_before():
    script = "import sys, tinystories.common.params_file, tinystories.common.stage; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "mlflow", "pandas", "numpy", "tokenizers", "matplotlib"} & set(result.stdout.split())
