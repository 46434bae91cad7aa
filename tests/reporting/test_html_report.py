"""report.html: whole and closed, self-contained, every text literal, the same bytes from the same files."""

import base64
import hashlib
import json
import re

import pytest
from hypothesis import given

from tests.support.curves import tables
from tests.support.fuzz import fuzz
from tests.support.html_page import HOSTILE, Page
from tests.support.report_files import sample_page, write_run
from tinystories.common import paths
from tinystories.common.artifacts import EpochRow, Evaluation, HistoryRow, Manifest, Run
from tinystories.common.params import Params
from tinystories.common.story_figures import StoryFigures
from tinystories.reporting.html_report import visible, write_html_report
from tinystories.reporting.markdown import flatten
from tinystories.reporting.report import loss_rows
from tinystories.reporting.stories import judgement


def page(params: Params) -> Page:
    write_html_report(params)
    return Page(paths.REPORT_HTML.read_text())


def test_write_html_report_has_every_figure(run, params):
    found = page(params)
    assert found.all("h1") == found.all("title")[:1] == ["GPT, 8.9 M parameters, on own documents · 163.8 K tokens"]
    assert found.all("dd") == ["1.2346", "3.44", "0.4322", "8.9 M", "163.8 K", "3,913", "1:02:05"]
    cells = found.all("td") + found.all("th")
    rows, _ = loss_rows(EpochRow.read_table())
    judged = judgement("document")
    assert judged is not None
    for shown in (*rows, *(values for _, _, values in judged.rows)):
        assert set(shown) <= set(cells)
    assert {reading for _, reading, _ in judged.rows} | {"unprompted", "prompted", "real"} <= set(cells)
    for name, value in flatten(params.model_dump(mode="json")):
        assert cells.count(name) == 1 and value in cells
    assert {"EPYC_9|24 *Core* (cpu)", "2.13.0+cpu", "odd-name", "9f" * 20} <= set(cells)
    assert "2,000,000" in cells
    text = paths.REPORT_HTML.read_text()
    assert f"loss {Evaluation.read().valid_loss:.4f}, perplexity 3.44, 0.4322 bits per byte" in text
    StoryFigures().write()
    assert "judged" not in "".join(page(params).all("h2"))


def test_write_html_report_is_headed_by_the_published_model(run, params):
    best = {"best_epoch": 1, "best_valid_loss": 1.2, "best_valid_ppl": 3.3201, "best_valid_bits_per_byte": 0.42}
    Evaluation.read().model_copy(update=best).write()
    for model, loss in (("last", "1.2346"), ("best", "1.2000")):
        write_html_report(params.model_copy(update={"publish": params.publish.model_copy(update={"model": model})}))
        text = paths.REPORT_HTML.read_text()
        assert f"<div><dt>validation loss</dt><dd>{loss}</dd></div>" in text
        assert f"is the model of epoch {1 if model == 'best' else 2}." in text


def test_write_html_report_shows_epochs_side_by_side(tmp_path, monkeypatch, params):
    monkeypatch.chdir(tmp_path)
    write_run(epochs=120)
    for epoch in (1, 25, 49, 72, 96, 120):
        story = sample_page("S", None, [f"A start of epoch {epoch}.", "Second."])
        with paths.epoch_samples(epoch).open("a") as file:
            file.write(f"\n{story}")
    found = page(params)
    prompts = found.all("h3")
    assert prompts == ["Prompt 1", "Prompt 2", "Unprompted"]
    assert found.tags.count("blockquote") == 2
    assert [epoch.strip() for epoch in found.all("h4")] == [f"epoch {n}" for n in (1, 25, 49, 72, 96, 120)] * 3
    paragraphs = "\n".join(found.all("p"))
    assert [int(n) for n in re.findall(r"^.*Story of epoch (\d+)\.", paragraphs, re.MULTILINE)] == [
        1, 25, 49, 72, 96, 120,
    ]  # fmt: skip
    assert paragraphs.count("(cut at 256 tokens)") == 18


def test_write_html_report_cuts_a_very_long_sample(run, params):
    paths.epoch_samples(2).write_text(sample_page("S", "Once.", ["word " * 90_000]))
    write_html_report(params)
    text = paths.REPORT_HTML.read_text()
    assert len(text) < 50_000 and "(the rest: reports/samples/epoch_2.md)" in text


def test_write_html_report_needs_nothing_else(run, params):
    found = page(params)
    text = paths.REPORT_HTML.read_text()
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(found.tags)
    assert not {name for name, _ in found.attributes if name in ("src", "href", "style") or name.startswith("on")}
    assert "url(" not in text and "@import" not in text
    addresses = set(re.findall(r"\w+://[^\s\"'<]+", text))
    assert addresses == {"http://www.w3.org/2000/svg", "https://host.example/a_b.txt"}  # a namespace; the manifest's
    (policy,) = [value for value in found.get("content") if value and "default-src" in value]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    data, script = found.all("script")
    (style,) = found.all("style")
    for kind, source in (("script", script), ("style", style)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    history = [[row.step, row.tokens, round(row.loss, 4)] for row in HistoryRow.read_table()]
    assert [row[:3] for row in json.loads(data)["rows"]] == history


@pytest.fixture
def tame(run, params):
    """The tags of the page where no text is hostile."""
    paths.epoch_samples(2).write_text(sample_page("S", "Once.", ["It was."]))
    return sorted(page(params).tags)


@pytest.mark.parametrize("place", ["story", "prompt", "configuration", "machine"])
@fuzz(0.6)
@given(text=HOSTILE)
def test_write_html_report_shows_any_text_literally(tame, params, place, text):
    if place == "configuration":
        params = params.model_copy(update={"mlflow": params.mlflow.model_copy(update={"experiment": text or "x"})})
    elif place == "machine":
        named = Run.read().environment.model_copy(update={"device_name": text})
        Run.read().model_copy(update={"environment": named}).write()
    else:
        line = f"begin {text} end".replace("\n", " ")
        prompt, story = (line, "It was.") if place == "prompt" else ("Once.", line)
        paths.epoch_samples(2).write_text(sample_page("S", prompt, [story]), newline="")
    found = page(params)
    assert sorted(found.tags) == tame
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", paths.REPORT_HTML.read_text())
    assert " ".join(visible(text).split()) in " ".join(" ".join(found.texts).split())


def test_write_html_report_repeats_its_bytes(run, params):
    write_html_report(params)
    first = paths.REPORT_HTML.read_bytes()
    paths.REPORT_HTML.unlink()
    write_html_report(params)
    assert paths.REPORT_HTML.read_bytes() == first
    Evaluation.read().model_copy(update={"valid_loss": 1.2}).write()
    write_html_report(params)
    assert paths.REPORT_HTML.read_bytes() != first


def test_write_html_report_of_a_long_run_is_small(run, params):
    history, epochs = tables(20_000, 400)
    HistoryRow.write_table(history)
    EpochRow.write_table(epochs)
    for epoch in (1, 81, 161, 240, 320, 400):
        paths.epoch_samples(epoch).write_text(sample_page("S", "Once.", ["One end."]))
    write_html_report(params)
    assert paths.REPORT_HTML.stat().st_size < 200_000


def test_write_html_report_has_no_credentials(run, params):
    uri = "postgresql://me:secret@db.example:5432/runs?password=secret"
    params = params.model_copy(update={"mlflow": params.mlflow.model_copy(update={"tracking_uri": uri})})
    Manifest.read().model_copy(update={"source": "https://me:secret@host.example/x"}).write()
    write_html_report(params)
    assert "secret" not in paths.REPORT_HTML.read_text()
    assert "postgresql://db.example:5432/runs<" in paths.REPORT_HTML.read_text()


def test_visible_keeps_what_can_be_seen():
    assert visible("a\tb\n龙 \u200fأ 👩\u200d👧") == "a\tb\n龙 \u200fأ 👩\u200d👧"
    assert visible("\x1b[31m\x00\u202e\ufeff\ud800") == r"\x1b[31m\x00\u202e\ufeff\ud800"
    assert visible(3) == 3
