"""Plain text: where one document ends and the next begins (`data.files.documents`)."""

import re
from typing import Literal

from tinystories.corpus.stories import SEPARATOR, SEPARATOR_BOUNDARY, Boundary

Documents = Literal["auto", "blank_lines", "lines"]

_BLANK_LINES = re.compile(rf"\n[^\S\n]*\n|{re.escape(SEPARATOR)}")
_LINES = re.compile(rf"\n|{re.escape(SEPARATOR)}")

# The separator ends a document in each, because it ends one wherever the text is read again.
BOUNDARIES: dict[Documents, Boundary] = {
    "auto": SEPARATOR_BOUNDARY,
    "blank_lines": Boundary("blank line", (b"\n\n", b"\n\r\n"), _BLANK_LINES.split),
    "lines": Boundary("line end", (b"\n",), _LINES.split),
}
