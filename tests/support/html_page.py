"""What the tests of pages for a browser share: a strict parser, and texts that would like to be markup."""

from html.parser import HTMLParser

from hypothesis import strategies as st

HOSTILE = st.text(
    st.characters(codec="utf-8") | st.sampled_from("<>&\"'/`\x00\x1b\x7f\r\u2028\u202e\u2066\u200f龙"), max_size=40
) | st.sampled_from(["</script><script>alert(1)</script>", "<!--", "]]>", "{{ 1 }}{% raw %}", "&amp;&#60;", "\\x1b"])

VOID = {"meta", "br", "hr", "img", "link", "input", "base", "wbr"}


class Page(HTMLParser):
    """A parsed page. It fails where a tag is not closed, or another one is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []  # of each tag, without those of the tags in it
        self.open: list[int] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.texts.append("")
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(len(self.tags) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags[self.open.pop()] == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]] += data

    def all(self, tag: str) -> list[str]:
        return [text for name, text in zip(self.tags, self.texts, strict=True) if name == tag]

    def get(self, name: str) -> list[str | None]:
        return [value for key, value in self.attributes if key == name]
