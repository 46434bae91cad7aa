"""What a server says chooses no path and does not control the terminal. Needs a local port."""

import os
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console

from tests.support.faulty_server import WHOLE, good, status
from tests.support.repository import PARAMS
from tinystories.common import console
from tinystories.common.console import info, progress, warn
from tinystories.sources.hub import fetch


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_fetch_ignores_names_from_a_server(empty, server, tmp_path):
    names = {"Content_Disposition": 'attachment; filename="../../../harm.txt"', "Content_Location": "/../../harm.txt"}
    rude = [status(302, Location="/..%2f..%2f..%2fharm.txt", **names), lambda h: good(h, headers=names)]
    server.head_answers, server.answers = [*rude], [*rude]
    fetch(f"{server.endpoint}/..%2f..%2f..%2fharm.txt", Path("data/stories.txt"), **WHOLE)
    assert files_below(empty) == {"data/stories.txt"}
    assert files_below(tmp_path) == {"a/b/project/data/stories.txt"}


def test_fetch_escapes_words_from_a_server(empty, server):
    """Escape sequences would move the cursor, change colours, or set the window's title."""

    def rude(handler):
        handler.send_response(404, "\x1b]0;owned\x07\x1b[2J")
        handler.end_headers()

    def polite_with_rude_headers(handler):
        good(handler, headers={"X_HF_Warning": "\x1b]0;owned\x07", "X_Error_Message": "\x1b[2J"})

    server.head_answers = [polite_with_rude_headers]
    server.always = rude
    shutil.copy(PARAMS, "params.yaml")
    script = (
        "import sys; from pathlib import Path; from tinystories.sources.hub import fetch;"
        "from tinystories.common.stage import run_stage;"
        "run_stage(lambda _: fetch(sys.argv[1], Path('a.txt'), size=102_400, sha256=''))"
    )
    url, environment = (
        f"{server.endpoint}/a.txt",
        {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"},
    )
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert done.stderr == f"error: {url}: the server answers 404 \\x1b]0;owned\\x07\\x1b[2J; expected the file\n"


def test_console_keeps_outside_words_on_their_line(capsys, monkeypatch):
    monkeypatch.setattr(console, "LOG_EVERY_SECONDS", 0)
    info("one\n| a table |\nof \x1b[31mred\r and \x9b1m")
    warn("a name \udcff of\ntwo lines")
    with progress("a\x1b]0;title\x07", total=None) as bar:
        bar.advance(0)
    assert capsys.readouterr().out.splitlines() == [
        "one",
        "| a table |",
        "of \\x1b[31mred\\r and \\x9b1m",
        "warning: a name \\udcff of\\ntwo lines",
        "a\\x1b]0;title\\x07",
    ]


def test_progress_escapes_outside_names(monkeypatch):
    out = StringIO()
    monkeypatch.setattr(console, "_console", Console(file=out, force_terminal=True, width=200))
    with progress("Downloading a\x1b]0;title\x07b", total=1) as bar:
        bar.advance(1)
    assert "Downloading a\\x1b]0;title\\x07b" in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()
