"""Any text is shown literally: escapes in Markdown, also of samples in the report."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.support.report_files import sample_page
from tinystories.common import paths
from tinystories.reporting.markdown import escape
from tinystories.reporting.report import write_report

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


def test_write_report_shows_hostile_samples_literally(run, params):
    def outline(story: str) -> _Outline:
        paths.FINAL_SAMPLES.write_text(sample_page("Final", "Once.", [story]))
        write_report(params)
        return _Outline(paths.REPORT.read_text())

    tame, hostile = outline("tame"), outline(HOSTILE)
    lines = [line.strip() for line in HOSTILE.split("\n") if line.strip()]
    assert sorted(hostile.tags) == sorted([*tame.tags, *["p"] * (len(lines) - 1)])
    for line in lines:
        assert line in hostile.words
    assert "<" not in paths.REPORT.read_text()  # some renderers take a tag that others do not


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")) | st.sampled_from("\\`*_#|<>&$~-=. 1"))
)
def test_escape_gives_one_literal_paragraph(text):
    assert escape(escape(text)) == escape(text)
    shown = _Outline(escape(text.replace("\\", "").replace("&", "")))
    expected = text.replace("\\", "").replace("&", "").strip()
    assert shown.tags == (["p"] if expected else [])
    assert shown.words.strip() == expected


def test_escape_replaces_control_characters():
    assert escape("a\r# b\x0b- c\u2028\x00d") == "a \\# b - c  d"
