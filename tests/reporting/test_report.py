"""report.md: whole, literal, without credentials, and plain about files that are missing or damaged."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tinystories.common import paths
from tinystories.common.errors import UserError
from tinystories.common.params import Params, load_params
from tinystories.reporting.plot import EPOCH_COLUMNS, read_table
from tinystories.reporting.report import escape, loss_table, run_title, write_report

PARAMS_FILE = Path(__file__).parents[2] / "params.yaml"
HOSTILE = """# head
| a | b |
|---|---|
***
1. _one_ *two* `three`
---
<b>bold</b> & $x$ [link](http://a.b)
===

    code
~~~"""
MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def sample_file(title: str, prompt: str | None, stories: list[str]) -> str:
    """Samples as the stages write them."""
    parts = [f"# {title}", "top-k 40, temperature 0.8, seed 1337"]
    for number, story in enumerate(stories, start=1):
        parts.append(f"## Prompt {number}" if prompt else "## Unprompted sample")
        if prompt:
            parts += ["**Prompt**", f"> {prompt}"]
        parts += ["**Continuation**", "\n".join(f"> {line}".rstrip() for line in story.split("\n"))]
        parts.append("(cut at 256 tokens)")
    return "\n\n".join(parts) + "\n"


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def epoch_table(count: int) -> pd.DataFrame:
    rows = [(n, 3.1 / n, 22.2, 2.9 / n, 1234.5, 0.4912, 20 * n, 81_920 * n, 61.4 * n) for n in range(1, count + 1)]
    return pd.DataFrame(rows, columns=list(EPOCH_COLUMNS))


@pytest.fixture
def params() -> Params:
    return load_params(PARAMS_FILE)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of two epochs, in the current directory."""
    monkeypatch.chdir(tmp_path)
    write_run(epochs=2)


def write_run(epochs: int) -> None:
    write_json(
        paths.RAW_MANIFEST,
        {
            "source": "files",
            "detail": {"train": "https://me:secret@host.example/a_b.txt?sig=secret", "valid": "", "held_out": 0.01},
            "train": {"bytes": 2_000_000, "stories": 2_345, "sha256": "ab" * 32},
            "valid": {"bytes": 20_000, "stories": 23, "sha256": "cd" * 32},
        },
    )
    part = {"tokens": 500_000, "stories": 2_345, "bytes": 1_950_000, "sha256": "ef" * 32}
    write_json(paths.TOKENS_META, {"vocab_size": 4096, "tokenizer_sha256": "12" * 32, "train": part, "valid": part})
    scores = {"valid_loss": 1.23456, "valid_ppl": 3.4368, "valid_bits_per_byte": 0.43217}
    write_json(paths.EVALUATION, {**scores, "valid_tokens": 4_999})
    train = {"steps": 40, "tokens": 163_840, "parameters": 8_912_345, "tokens_per_second": 3_912.6, "seconds": 3_725.0}
    write_json(paths.TRAIN_METRICS, {"train_loss": 1.3, "train_ppl": 3.7, **scores, **train})
    versions = {"torch": "2.13.0+cpu", "python": "3.11.7", "platform": "Linux-6.1-x86_64", "git_commit": "9f" * 20}
    device = {"device": "cpu", "device_name": "EPYC_9|24 *Core*", "precision": "bf16", "compiled": False, "threads": 2}
    times = {"started": "2026-11-22T17:01:02+00:00", "ended": "2026-11-22T18:03:07+00:00"}
    write_json(
        paths.RUN,
        {"run_id": "a1b2", "key": "0f" * 32, "name": "odd-name", **times, "environment": {**device, **versions}},
    )
    paths.SAMPLES.mkdir(parents=True)
    epoch_table(epochs).to_csv(paths.EPOCHS, index=False)
    for epoch in range(1, epochs + 1):
        text = sample_file(f"Samples after epoch {epoch}", "Once.", [f"Story of epoch {epoch}.", "second section"])
        (paths.SAMPLES / f"epoch_{epoch}.md").write_text(text)
    paths.FINAL_SAMPLES.write_text(sample_file("Final", "Once.", ["One end.", "Another end."]))


def report(params: Params) -> str:
    write_report(params)
    return paths.REPORT.read_text()


def test_it_has_every_part_with_the_figures_of_the_files(run, params):
    text = report(params)
    for part in (
        "# GPT, 8.9 M parameters, on own stories · 163.8 K tokens\n",
        "**Validation loss 1.2346, perplexity 3.44, 0.4322 bits per byte.** A GPT of 8,912,345 parameters saw 163,840 "
        "tokens in 40 steps; on EPYC_9\\|24 \\*Core\\* that took 1:02:05.",
        "4,999 validation tokens",
        "](plot.png)",
        "### After epoch 1\n\n**Prompt**\n\n> Once.\n\n**Continuation**\n\n> Story of epoch 1.\n\n(cut at 256 tokens)",
        "> Story of epoch 2.",
        "> One end.",
        "> Another end.",
        "2026-11-22 17:01:02 UTC",
        "1:02:05, of which training 2:03",
        "3,913 tokens per second",
        "9f" * 20,
        "odd-name",
        "2.13.0+cpu",
        "2,000,000",
        "3.900",  # bytes a token
        "abab" * 3,
        'AutoModelForCausalLM.from_pretrained("models/checkpoint")',
        "dvc repro",
    ):
        assert part in text
    assert "second section" not in text  # one prompt's worth of each epoch
    assert "abab" * 4 not in text


def test_a_clock_that_was_set_back_does_not_show(run, params):
    record = json.loads(paths.RUN.read_text())
    write_json(paths.RUN, record | {"ended": "2026-11-21T00:00:00+00:00"})
    text = report(params)
    assert "2026-11-21" not in text
    assert text.count("2026-11-22 17:01:02 UTC") == 2


def test_the_configuration_has_every_key_once(run, params):
    text = report(params)
    table = text.split("## Configuration")[1].split("##")[0]
    keys = [re.sub(r"\\", "", line.split("|")[1].strip()) for line in table.strip().split("\n")[2:]]
    expected = [
        f"{section}.{key}" for section, values in params.model_dump().items() if section != "seed" for key in values
    ]
    tops = [re.sub(r"^(data\.(?:files|tinystories|embedded)|sample\.prompts)\..*", r"\1", key) for key in keys]
    assert set(tops) == {"seed", *expected}
    assert len(set(keys)) == len(keys)
    assert "train.learning_rate" in table
    assert f"{params.train.embedding_learning_rate}" in table


def test_the_loss_table_has_a_right_aligned_row_for_each_epoch(run, params):
    lines = loss_table(epoch_table(2)).split("\n")
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = ["epoch", "train loss", "train PPL", "valid loss", "valid PPL", "bits per byte", "tokens", "time"]
    assert cells[0] == names
    assert all(cell.endswith("-:") for cell in cells[1])
    assert cells[2] == ["1", "3.1000", "22.20", "2.9000", "1,234.50", "0.4912", "81,920", "1:01"]
    assert cells[3] == ["2", "1.5500", "22.20", "1.4500", "1,234.50", "0.4912", "163,840", "2:03"]
    assert len({len(line) for line in lines}) == 1
    assert loss_table(epoch_table(2)) in report(params)


def test_many_epochs_are_thinned_with_the_first_and_the_last(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    write_run(epochs=120)
    text = report(params)
    shown = [int(epoch) for epoch in re.findall(r"^### After epoch (\d+)$", text, re.MULTILINE)]
    assert len(shown) == 6
    assert shown[0] == 1
    assert shown[-1] == 120
    rows = re.findall(r"^\| +(\d+) \|", text, re.MULTILINE)
    assert len(rows) == 50
    assert rows[0] == "1"
    assert rows[-1] == "120"
    assert "50 of 120 epochs" in text


class _Outline(HTMLParser):
    """The tags of rendered Markdown, and its text."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words = ""
        self.feed(MARKDOWN.render(markdown))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.words += data


def test_hostile_story_text_adds_nothing_but_paragraphs_and_shows_as_it_is(run, params):
    def outline(story: str) -> _Outline:
        paths.FINAL_SAMPLES.write_text(sample_file("Final", "Once.", [story]))
        return _Outline(report(params))

    tame, hostile = outline("tame"), outline(HOSTILE)
    lines = [line.strip() for line in HOSTILE.split("\n") if line.strip()]
    assert sorted(hostile.tags) == sorted([*tame.tags, *["p"] * (len(lines) - 1)])
    for line in lines:
        assert line in hostile.words
    assert "<" not in paths.REPORT.read_text()  # some renderers take a tag that others do not


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")) | st.sampled_from("\\`*_#|<>&$~-=. 1"))
)
def test_escaped_text_is_one_literal_paragraph(text):
    assert escape(escape(text)) == escape(text)
    shown = _Outline(escape(text.replace("\\", "").replace("&", "")))
    expected = text.replace("\\", "").replace("&", "").strip()
    assert shown.tags == (["p"] if expected else [])
    assert shown.words.strip() == expected


def test_control_characters_of_a_story_end_no_line():
    assert escape("a\r# b\x0b- c\u2028\x00d") == "a \\# b - c  d"


def test_no_credentials(run, params):
    """Also such as params.yaml may not hold: the report does not lean on that."""
    train = "https://me:secret@host.example/train.txt?token=secret#secret"
    files = params.data.files.model_copy(update={"train": train, "valid": "s3://me@bucket/valid.txt"})
    uri = "postgresql://me:secret@db.example:5432/runs?password=secret"
    sections = {
        "data": params.data.model_copy(update={"files": files}),
        "mlflow": params.mlflow.model_copy(update={"tracking_uri": uri}),
    }
    text = report(params.model_copy(update=sections))
    assert "secret" not in text
    assert "me@" not in text
    assert "https://host.example/train.txt " in text
    assert "https://host.example/a_b.txt\n" in text  # the manifest's
    assert "postgresql://db.example:5432/runs " in text


def test_the_title_names_the_source(run, params):
    manifest = json.loads(paths.RAW_MANIFEST.read_text())
    write_json(paths.RAW_MANIFEST, {**manifest, "source": "tinystories"})
    assert "on TinyStories V2 ·" in run_title(params)


INPUTS = (
    (paths.EPOCHS, "train"),
    (paths.SAMPLES / "epoch_2.md", "train"),
    (paths.FINAL_SAMPLES, "evaluate"),
    (paths.RUN, "stage that writes it"),
    (paths.TRAIN_METRICS, "stage that writes it"),
    (paths.EVALUATION, "stage that writes it"),
    (paths.RAW_MANIFEST, "stage that writes it"),
    (paths.TOKENS_META, "stage that writes it"),
)


@pytest.mark.parametrize(("path", "stage"), INPUTS)
@pytest.mark.parametrize("damage", ["missing", "empty", "bytes"])
def test_a_missing_or_damaged_file_is_named(run, params, path, stage, damage):
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else b"\xff\xfe\x00")
    with pytest.raises(UserError) as raised:
        write_report(params)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert stage in message
    assert "\n" not in message
    assert not paths.REPORT.exists()


@pytest.mark.parametrize(
    ("path", "key", "value", "stage"),
    [
        (paths.RUN, "environment", {}, "train"),
        (paths.RUN, "started", "yesterday", ""),
        (paths.EVALUATION, "valid_loss", "1.2", "evaluate"),
        (paths.EVALUATION, "valid_ppl", None, "evaluate"),
        (paths.TRAIN_METRICS, "tokens", "x" * 10_000, "train"),
        (paths.RUN, "key", ["a"] * 10_000, "train"),
        (paths.RUN, "started", "\x1b[31m", ""),
        (paths.TRAIN_METRICS, "steps", True, "train"),
        (paths.TOKENS_META, "valid", None, "tokenize_to_memmap"),
        (paths.RAW_MANIFEST, "detail", [], "download"),
    ],
)
def test_a_wrong_value_is_named(run, params, path, key, value, stage):
    write_json(path, {**json.loads(path.read_text()), key: value})
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: {key}.*{stage}") as raised:
        write_report(params)
    assert str(raised.value).isprintable() and len(str(raised.value)) < 400


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "1" * 400])
def test_a_number_that_is_none_is_refused(run, params, value):
    path = paths.EVALUATION
    path.write_text(path.read_text().replace("4999", value))
    with pytest.raises(UserError, match=r"evaluate.json: not readable as JSON .*(no finite number|more than 64 bits)"):
        write_report(params)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epoch,loss\n", "no row below the header"),
        ("epoch,seconds\n1,2\n", "no column loss"),
        ("epoch,loss\n1,2.5\n2,low\n", "loss is 'low' in row 2"),
        ("epoch,loss\n1,\n", "loss is '' in row 1"),
        ("epoch,loss\n1,nan\n", "loss is 'nan' in row 1"),
        ("epoch,loss\n1,inf\n", "loss is 'inf' in row 1"),
        ("epoch,loss\n1,-2\n", "loss is '-2' in row 1, expected a finite number from 0 to"),
        ("epoch,loss\n1,1e300\n", "loss is '1e300' in row 1, expected a finite number from 0 to"),
        ("epoch,loss\n1," + "x" * 10_000 + "\n", "loss is 'xxx"),
        ("epoch,loss\n1,2\n1,2,3,4\n", "not readable as CSV (line 3 has 4 values, the header has 2)"),
        ("epoch,loss\n1,2,\n3,4,\n", "not readable as CSV (line 2 has 3 values"),  # pandas would move the columns
        ("epoch,loss\n1\n", "not readable as CSV (line 2 has 1 values"),
        ("epoch,loss,loss\n1,2,3\n", "not readable as CSV (a column stands twice)"),
        ("epoch,loss\n1,\0\n", "loss is"),
        ('epoch,loss\n1,"2\n', "not readable as CSV"),
        ("epoch,loss\n1," + "2" * 200_000 + "\n", "not readable as CSV (field larger than"),
        ("", "no row below the header"),
    ],
)
def test_a_damaged_table_is_named_with_the_place(tmp_path, text, problem):
    path = tmp_path / "epochs.csv"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        read_table(path, ("epoch", "loss"))
    assert str(raised.value).startswith(f"{path}: {problem}")
    assert "train" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_table_keeps_its_numbers(tmp_path):
    path = tmp_path / "epochs.csv"
    path.write_text("loss,epoch,more\n2.25,1,x\n1e-3,2,y\n")
    table = read_table(path, ("epoch", "loss"))
    assert table.to_dict("list") == {"epoch": [1, 2], "loss": [2.25, 0.001]}
