"""Runs side by side: what differs, who is ranked, the table as text, the picture, the page."""

import base64
import hashlib
import json
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tests.support.fuzz import fuzz
from tests.support.html_page import HOSTILE, Page
from tests.support.recorded_runs import recorded
from tinystories.common.console import escape_control
from tinystories.common.recorded_run import Score
from tinystories.reporting.comparison import as_text, compare, differences
from tinystories.reporting.comparison_figure import draw_comparison, plot_comparison
from tinystories.reporting.comparison_page import write_comparison_page
from tinystories.reporting.html_report import visible

VALUES = st.sampled_from(["1", "1.0", "2", "true", "True", "", "nan", "a b"])
TABLES = st.lists(st.dictionaries(st.sampled_from(["a", "b.c", "d"]), VALUES), min_size=1, max_size=5)
SAME = {"1.0": "1", "True": "true"}


@fuzz(4)
@given(tables=TABLES)
def test_differences_are_those_parameters_that_are_not_equal(tables):
    found = differences([recorded(number, params=table) for number, table in enumerate(tables)])
    known = [table for table in tables if table]  # a run that was killed early has no parameters
    for name in ("a", "b.c", "d"):
        values = {SAME.get(table.get(name), table.get(name)) for table in known}
        assert (name in found) == (len(values) > 1)
    for name, column in found.items():
        assert column == ["–" if name not in table else table[name] or "(empty)" for table in tables]


def test_differences_name_conditions_but_no_commit_and_no_address():
    runs = [
        recorded(1),
        recorded(2, environment={"torch": "2.14.0", "git_commit": "x"}, params={"mlflow.tracking_uri": "elsewhere"}),
    ]
    assert set(differences(runs)) == {"torch", "seed", "train.batch_size"}


def test_compare_ranks_by_bits_per_byte_of_the_best_epoch():
    better_before = recorded(4, scores=[Score(3200.0, 1.9, 0.05), Score(6400.0, 2.5, 0.9)])
    found = compare([recorded(2), recorded(1, params={"seed": "2", "train.batch_size": "32"}), better_before], others=3)
    assert found.columns == ["#", "run", "bits/byte", "valid loss", "last loss", "seed"]
    assert found.rows == [
        ["1", "run-4", "0.0500", "1.9000", "2.5000", "1"],
        ["2", "run-1", "0.1000", "2.2500", "2.2500", "2"],
        ["3", "run-2", "0.2000", "2.2500", "2.2500", "1"],
    ]
    assert found.notes == ["3 older runs left out: --last 6 shows all."]


def test_compare_does_not_rank_what_does_not_compare():
    runs = [
        recorded(5, validation="c" * 16, name="elsewhere"),
        recorded(1, status="RUNNING", validation=None, name="on its way"),
        recorded(2, status="KILLED", validation=None, losses=[], scores=[], params={}, name="stopped"),
        recorded(3, validation=None, name="half"),
        recorded(7),
        recorded(6, name="twice"),
        recorded(8, name="twice"),
    ]
    found = compare(runs)
    notes = {row[1]: (row[0], row[-1]) for row in found.rows}
    assert notes == {
        "twice (00000006)": ("1", ""), "run-7": ("2", ""), "twice (00000008)": ("3", ""),
        "on its way": ("–", "not finished"), "half": ("–", "not published"),
        "elsewhere": ("–", "other validation data"), "stopped": ("–", "stopped"),
    }  # fmt: skip
    assert list(notes)[:3] == ["twice (00000006)", "run-7", "twice (00000008)"]
    assert found.notes == [
        "Figures on other validation data do not compare with the ranked ones.",
        "No parameter differs between these runs.",
    ]
    assert "Losses of other vocabularies" in compare(
        [recorded(n, params={"tokenizer.vocab_size": str(n)}) for n in (1, 2)]
    ).notes[0]  # fmt: skip


def test_compare_takes_the_whole_name_where_two_end_alike():
    runs = [recorded(n, params={"train.batch_size": str(n), "evaluate.batch_size": str(n)}) for n in (1, 2)]
    assert compare(runs).columns[-2:] == ["train.batch_size", "evaluate.batch_size"]


@fuzz(2)
@given(names=st.lists(HOSTILE, min_size=1, max_size=4), width=st.integers(10, 200) | st.none())
def test_as_text_fits_and_stays_a_table(names, width):
    found = compare([recorded(n, name=name, params={"seed": str(n)}) for n, name in enumerate(names)])
    lines = as_text(found.columns, found.rows, width)
    assert len(lines) == len(names) + 1 + lines[-1].startswith("Not shown here: ")
    assert all(line.isprintable() for line in lines)
    if width:
        assert all(cell_len(line) <= width for line in lines if not line.startswith("Not shown here: "))
    else:
        assert all(escape_control(name) in line for name, line in zip(names, lines[1:], strict=True))


def test_as_text_cuts_long_names_first():
    found = compare([recorded(n, name="x" * 60 + str(n), params={"seed": str(n)}) for n in (1, 2)])
    assert as_text(found.columns, found.rows, 50) == [
        "#  run                 bits/byte  valid loss  seed",
        "1  " + "x" * 17 + "…     0.1000      2.2500     1",
        "2  " + "x" * 17 + "…     0.2000      2.2500     2",
    ]
    assert as_text(found.columns, found.rows, 24)[-1] == "Not shown here: valid loss, seed"


@pytest.mark.filterwarnings("error")
def test_plot_comparison_draws_every_run(tmp_path):
    runs = [recorded(n, name="$x_{$ 龙 </b>", params={"seed": str(n)}) for n in range(1, 24)]
    runs.append(recorded(30, losses=[], scores=[]))
    target = tmp_path / "new" / "compare.png"
    plot_comparison(compare(runs), target)
    data = target.read_bytes()
    assert data.startswith(b"\x89PNG") and struct.unpack(">2I", data[16:24])[0] == 1650
    figure = draw_comparison(compare(runs))
    losses, table, _ = figure.axes
    assert len(losses.lines) == 2 * 23 and len(table.lines) == 24
    assert len({(line.get_color(), line.get_linestyle()) for line in table.lines[:21]}) == 21
    assert len({text.get_text() for text in table.texts}) == 25


def test_plot_comparison_of_nothing_yet(tmp_path):
    plot_comparison(compare([recorded(1, losses=[], scores=[])]), tmp_path / "compare.png")
    write_comparison_page(compare([recorded(1, losses=[], scores=[])]), tmp_path / "compare.html")
    assert "None of these runs has a figure yet." in Page((tmp_path / "compare.html").read_text()).texts


def test_write_comparison_page_has_curves_and_ranking_and_needs_nothing_else(tmp_path):
    runs = [recorded(n, params={"seed": str(n)}) for n in (1, 2)]
    write_comparison_page(compare(runs), tmp_path / "compare.html")
    text = (tmp_path / "compare.html").read_text()
    page = Page(text)
    assert not {"link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert set(re.findall(r"\w+://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    scripts, styles = page.all("script"), page.all("style")
    (policy,) = [value for value in page.get("content") if value and "default-src" in value]
    for kind, source in (("script", scripts[1]), ("style", styles[0])):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    data = json.loads(scripts[0])
    assert [run["name"] for run in data["runs"]] == ["run-1", "run-2"]
    assert data["runs"][0]["train"] == [[int(tokens), loss] for tokens, loss in runs[0].losses]
    assert data["runs"][0]["valid"] == [[3200, 4.5], [6400, 2.25]]
    assert [cell for cell in page.all("td") if cell.strip()] == [
        "1", "run-1", "0.1000", "2.2500", "1", "2", "run-2", "0.2000", "2.2500", "2",
    ]  # fmt: skip


@fuzz(0.6)
@given(text=HOSTILE)
def test_write_comparison_page_shows_any_name_literally(tmp_path_factory, text):
    directory = tmp_path_factory.mktemp("page")

    def page(name: str) -> Page:
        runs = [recorded(1, name=name), recorded(2, params={"seed": name or "x", "train.batch_size": "32"})]
        write_comparison_page(compare(runs), directory / "compare.html")
        return Page((directory / "compare.html").read_text())

    found = page(text)
    assert sorted(found.tags) == sorted(page("tame").tags)
    page(text)
    written = (directory / "compare.html").read_text()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]", written)
    assert " ".join(visible(text).split()) in " ".join(" ".join(found.texts).split())
