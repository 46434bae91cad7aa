"""YAML as it is read: what is ambiguous or strange is refused with its place, and DVC never reads another value."""

from typing import Any

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.params import AFTER_LAST, COMMITTED, line_of, load, put, refusal
from tinystories.common.errors import UserError

BAD = [
    # numbers that are ambiguous
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
    # other YAML than meant
    (put("sample.prompts", "[a, ]\n    - b"), [line_of("sample.prompts", 1)]),
    (put("seed", "12 # and\n  34"), [line_of("seed", 1)]),
    (put("seed", "&a 5"), [line_of("seed"), "an anchor to YAML"]),
    (put("mlflow.experiment", "&a:b"), [line_of("mlflow.experiment"), "an anchor to YAML"]),  # text to PyYAML only
    (put("sample.prompts", "[*The end*]"), [line_of("sample.prompts"), "an alias to YAML", "put text in quotes"]),
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
    ("{}\n", ["seed is missing", "and 9 more"]),
    ("# only a comment\n", ["found nothing"]),
    ("- seed: 1\n", ["found a list"]),
    ("1337\n", ["found a int"]),
    ("a: " + "[" * 90_000, ["nested too deeply"]),
    ("#" * 10_000_000, ["10,000,000 bytes", "100,000"]),
    (COMMITTED.encode("utf-16"), ["not UTF-8 at byte 0"]),
    (put("mlflow.experiment", "caf").encode() + b"  # caf\xe9\n", ["not UTF-8 at byte"]),
]


@pytest.mark.parametrize(("text", "expected"), BAD, ids=[" ".join(expected)[:60] for _, expected in BAD])
def test_read_yaml_refuses_bad_file(tmp_path, text, expected):
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
def test_read_yaml_refuses_strange_file(tmp_path, text, expected):
    message = refusal(tmp_path, text)
    assert expected in message
    assert len(message) < 400


SCALARS = st.text("0123456789_-+.eExXobBinfaNIyostrulm:~<=,'\" []{}#&*\t", max_size=8) | st.one_of(
    st.integers().map(str), st.floats().map(str), st.floats().map(lambda number: f"{number:.3e}"), st.dates().map(str)
)


@settings(max_examples=300)
@given(st.sampled_from(["seed", "train.weight_decay", "mlflow.experiment", "sample.prompts"]), SCALARS)
@example("mlflow.experiment", "off")
@example("mlflow.experiment", "1:30")
@example("train.weight_decay", "1e-05")
def test_read_yaml_same_value_as_dvc(tmp_path_factory, key, text):
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


def test_read_yaml_any_style(tmp_path):
    flow = yaml.safe_dump(yaml.safe_load(COMMITTED), default_flow_style=True)
    assert load(tmp_path, flow) == load(tmp_path, COMMITTED.replace("\n", "\r\n")) == load(tmp_path, COMMITTED)
    assert load(tmp_path, b"\xef\xbb\xbf" + COMMITTED.encode()) == load(tmp_path, COMMITTED)
