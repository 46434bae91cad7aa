"""README.md from top to bottom, and docs/using.md, typed as they stand there.

Needs make, git, bash, DVC, MLflow; one test transformers.

Stand-ins, none of which the README shows: smaller parameters, an environment that is installed already, a free port,
a local server.
"""

import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.corpora import json_lines
from tests.support.ports import free_port
from tests.support.repository import ROOT, SMALL, Repository, new_repository, preset
from tinystories.corpus.stories import read_stories

USING = "[docs/using.md](docs/using.md)"
# With that page where it is first linked, because what it does follows what stands above it.
README = (ROOT / "README.md").read_text(encoding="utf-8")
README = README.replace(USING, f"{USING}\n\n{(ROOT / 'docs/using.md').read_text(encoding='utf-8')}", 1)
# The only commands that are not typed, and why.
NOT_TYPED = {
    r"rsync .*GPU:.*": "there is no second machine",
    r"scp .*GPU:.*": "there is no second machine",
    r"pip install .*": "it is installed already",
    r"mlflow models serve .*": "tests/tracking/test_served_model.py does it",
    r"curl 127.0.0.1:5001/.*": "tests/tracking/test_served_model.py asks such a server",
}
PROGRAMS = re.compile(
    r"(?:\w+=\S+ )*(?:source|make|git|dvc|mlflow|python3?|pip|rsync|scp|ssh|curl|cd|cp|tinystories)(?= |$)"
)
DONE = "the command ended with"
LIMIT = 300.0  # seconds for one command


def code() -> list[str]:
    """Commands: all lines of blocks of `sh`, and of a block without a language in which one line is a command."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$|((?:^    [^\n]*\n)+)", README, flags=re.MULTILINE | re.DOTALL)
    commands: list[str] = []
    for language, *block in found:
        lines = [line.strip() for line in "".join(block).splitlines() if line.strip()]
        if language == "sh" or (not language and any(map(is_command, lines))):
            commands += lines
    return commands


def is_command(line: str) -> bool:
    word = line.partition(" ")[0]
    return bool(PROGRAMS.match(line)) or ("/" not in word and shutil.which(word) is not None)


def typed() -> list[str]:
    return [line for line in code() if not any(re.fullmatch(pattern, line) for pattern in NOT_TYPED)]


class Terminal:
    """A bash in the repository, without a terminal: what is typed sees the variables of what was typed before."""

    def __init__(self, repository: Repository) -> None:
        self.bash = subprocess.Popen(
            ["bash", "--norc"], cwd=repository.path, env=repository.environment, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.said: dict[str, str] = {}

    def type(self, command: str) -> str:
        """What the command said. It must succeed."""
        assert self.bash.stdin and self.bash.stdout
        self.bash.stdin.write(f"{{ {command}\n}} < /dev/null; printf '\\n%s %s\\n' '{DONE}' $?\n")
        self.bash.stdin.flush()
        lines: list[str] = []
        guard = threading.Timer(LIMIT, self._kill)
        guard.start()
        for line in self.bash.stdout:
            lines.append(line)
            if line.startswith(DONE):
                break
        guard.cancel()
        output = "".join(lines)
        assert output.endswith(f"\n{DONE} 0\n"), f"{command}\n{output}"
        self.said[command] = output
        return output

    def close(self) -> None:
        with self.bash:
            self._kill()

    def _kill(self) -> None:
        os.killpg(self.bash.pid, signal.SIGKILL)


def install(repository: Repository) -> None:
    """What `make` would install, from the environment that runs this test."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=repository.path, check=True)
    (packages,) = (repository.path / ".venv/lib").glob("python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "here.pth").write_text("\n".join([str(repository.path / "src"), *here]) + "\n")
    for program in ("dvc", "mlflow"):
        (repository.path / ".venv/bin" / program).symlink_to(shutil.which(program) or program)
    command = repository.path / ".venv/bin/tinystories"  # that of the environment may have another tree's code
    command.write_text(f"#!/bin/sh\nexec '{repository.path}/.venv/bin/python' -m tinystories \"$@\"\n")
    command.chmod(0o755)
    for stamp in (".installed", ".installed-dev"):
        (repository.path / ".venv" / stamp).touch()


def stand_in(repository: Repository, port: int) -> None:
    """Small presets, as on make's command line; `make test` runs one file, in one process; the stories of a user."""
    values = {key: value for key, value in SMALL.items() if key != "sample.prompts"}
    small = [f"{key}={value}" for key, value in values.items() if not key.startswith("data.")]
    source = [f"{key}={value}" for key, value in values.items() if key.startswith("data.")]
    words = {"SMALL": small, "QUICKSTART": source, "SIDE_BY_SIDE": []}
    flags = [f"{name}={' '.join(value)}".replace(" ", "\\ ") for name, value in words.items()]
    repository.environment |= {
        "MAKEFLAGS": f"--no-print-directory -- {' '.join(flags)}",
        "PYTEST_ADDOPTS": "-q -p no:cacheprovider tests/training/test_schedule.py",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
    }
    repository.environment["PATH"] = os.environ["PATH"]  # without the environment, until it is activated
    repository.environment.pop("PYTHONPATH", None)
    (repository.path / "my_stories").mkdir()
    story = "{} went to the park. She saw {}, and was very happy.\n<|endoftext|>\n"
    names = [f"{first}{second}" for first in ("Ann", "Lil", "Zo", "To", "Sa") for second in map(chr, range(97, 123))]
    stories = (story.format(name, what) for name in names for what in ("a big tree", "a ball", "the sun"))
    (repository.path / "my_stories/one.txt").write_text("".join(stories))


@contextmanager
def serving(repository: Repository) -> Iterator[str]:
    """Serve the user's stories as `stories.jsonl.gz`. Yields the address."""
    served = repository.path.parent / "served"
    served.mkdir()
    rows = [{"text": story} for story in read_stories(repository.path / "my_stories/one.txt")]
    (served / "stories.jsonl.gz").write_bytes(gzip.compress(json_lines(rows)))
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def show_runs(terminal: Terminal, command: str, port: int) -> None:
    """Start MLflow's server, ask it for the experiment, stop it."""
    terminal.type(f"{command} > mlflow.log 2>&1 &")
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search",
        data=b'{"max_results": 10}',
        headers={"Content-Type": "application/json"},
    )
    for left in range(240, -1, -1):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                assert b'"tinystories"' in answer.read()
            break
        except OSError:
            assert left, terminal.type("cat mlflow.log")
            time.sleep(0.5)
    # That no other host can connect, its log says.
    assert f"http://127.0.0.1:{port}" in terminal.type("cat mlflow.log")
    terminal.type("kill $!")


def serve_model(terminal: Terminal, command: str, port: int) -> None:
    """Start llama.cpp's server, which the commands after it ask."""
    terminal.type(f"{command.partition('#')[0]} --port {port} > serve.log 2>&1 &")
    for left in range(240, -1, -1):
        if "Ctrl-C ends it." in terminal.type("cat serve.log"):
            break
        assert left, terminal.type("cat serve.log")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Repository, dict[str, str]]:
    """A new repository in which all was typed, and what each command said."""
    port, serve_port = free_port(), free_port()
    # Uncompiled: a process that compiles the kernels would do so for longer than it trains.
    repository = new_repository(tmp_path_factory.mktemp("walk") / "project", train__compile="off")
    install(repository)
    stand_in(repository, port)
    terminal = Terminal(repository)
    try:
        with serving(repository) as address:
            for command in typed():
                if command.startswith("mlflow ui"):
                    show_runs(terminal, command, port)
                elif command.startswith("tinystories serve"):
                    serve_model(terminal, command, serve_port)
                else:
                    at = command.replace("https://example.org", address).replace(
                        "127.0.0.1:8080", f"127.0.0.1:{serve_port}"
                    )
                    said = terminal.type(at)
                    if command.startswith("curl http://127.0.0.1:8080"):
                        assert '"text_completion"' in said
                        terminal.type("kill $!")
    finally:
        terminal.close()
    return repository, terminal.said


@pytest.mark.slow
@pytest.mark.pipeline
def test_all_commands_work_in_order(walked: tuple[Repository, dict[str, str]]) -> None:
    repository, said = walked
    assert "No file hash info" not in "".join(said.values())
    assert not [command for command, output in said.items() if "warning:" in output and "passes" not in output]
    show = next(output for command, output in said.items() if command == "make experiments")
    shown = {"valid_loss", "valid_bits_per_byte", "seconds", "train.epochs", "train.learning_rate", "model.layers"}
    assert shown <= set(re.findall(r"[\w.]+", show))
    assert not re.search("train_loss|startup|tokens|train.batch_size|stages/", show)
    assert "Updated" in said["git checkout params.yaml"]
    parameters = [run.data.params for run in repository.runs()]
    varied = {name for name in parameters[0] if len({values[name] for values in parameters}) > 1}
    assert {"data.source", "data.files.train", "train.epochs", "train.learning_rate", "model.layers"} <= varied
    page = (repository.path / "reports/dvc_plots/index.html").read_text()
    assert page.count("vegaEmbed('#") == 3 and "<script src" not in page, "the charts need no network"
    table = said["tinystories compare"]
    assert {"#", "run", "bits/byte", "epochs", "learning_rate", "layers"} <= set(table.split()), table
    names = set(re.findall(r"\[([\w-]+)\]", show))  # DVC's experiments
    again = names - {run.info.run_name for run in repository.runs()}
    assert len(names) >= 5 and len(again) == 1, "each its own run, but model.layers=2, which was trained before"
    assert {"reports/compare.png", "reports/compare.html"} <= set(re.findall(r"[\w./]+", table))


@pytest.mark.slow
@pytest.mark.pipeline
def test_snippet_opens_the_checkpoint(walked: tuple[Repository, dict[str, str]]) -> None:
    pytest.importorskip("transformers", reason="the environment that the README makes has none")
    repository, _ = walked
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    assert "Once upon a time" in repository.run(sys.executable, "-c", snippet)


def test_code_finds_commands_and_leaves_out_only_what_is_named() -> None:
    found = code()
    assert {"source .venv/bin/activate", "mlflow ui", "dvc checkout", "make reproduce"} <= set(found)
    assert any(line.startswith("make quickstart") for line in found)
    assert not [line for line in found if line.startswith(("download", "error:", "http", "dvc.yaml", "from "))]
    unused = [pattern for pattern in NOT_TYPED if not any(re.fullmatch(pattern, line) for line in found)]
    assert unused == []


def test_files_that_are_named_exist(finished: Repository) -> None:
    """All outputs among them, and but what `tinystories compare` writes: the walk has that."""
    named = set(re.findall(r"`((?:data|models|reports|stages|src|docs)/[\w./]+)`", README))
    for name in named - {"reports/compare.png", "reports/compare.html"}:
        assert (finished.path / name).exists(), name


def test_reference_run_comes_last() -> None:
    """Who follows the page meets no command after it that would mean hours, but what brings its files home."""
    rest = code()[code().index("git checkout params.yaml") :]
    assert rest[1] == "make reproduce"
    assert all(line.startswith(("rsync ", "scp ", "dvc checkout", "dvc repro")) for line in rest[2:])


def test_first_experiment_differs_from_the_quickstart() -> None:
    first = next(command for command in code() if re.fullmatch(r"dvc exp run -S [a-z_.]+=\d+", command))
    assert first in (ROOT / "Makefile").read_text(encoding="utf-8")  # the quickstart ends with it
    assert first.split()[-1] not in preset("SMALL") + preset("QUICKSTART")
