"""Commands, paths, trees and links in the documents resolve. Needs make, git and DVC's parser; runs nothing."""

import importlib.util
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from dvc.cli.parser import get_main_parser

from tests.support.repository import PARAMS, ROOT
from tinystories.cli.main import parser

# docs/log.md tells of earlier states of the code.
DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks/README.md")
    if path.name != "log.md"
]
FOLDERS = {path.parent.name for path in (ROOT / "src/tinystories").glob("*/__init__.py")}
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def blocks(document: Path) -> list[str]:
    """Fenced and indented code blocks, without their indentation."""
    text = document.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^    .*\n|^\n(?=    ))+", text, flags=re.MULTILINE)
    return [*fenced, *(re.sub("^    ", "", block, flags=re.MULTILINE) for block in indented)]


def spans(document: Path) -> list[str]:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def commands(document: Path, program: str) -> list[list[str]]:
    """Words of each command of the program, in code blocks and spans, variables before it left out."""
    lines = "\n".join(blocks(document)).replace("\\\n", " ").splitlines()
    command = re.compile(rf"(?:\w+=\S+ )*(?:\.venv/bin/)?{program}( .*)?")
    found = (command.fullmatch(line) for line in [*lines, *spans(document)])
    return [shlex.split(match[1] or "", comments=True) for match in found if match]


def tree(block: str) -> list[str]:
    """Paths of a commented tree: names at the beginning of a line, below the folder of less indentation. Else none."""
    plain = [re.sub("[│├└─]", " ", line) for line in block.splitlines()]
    if sum(bool(re.match(r" *[\w./-]+/( |$)", line)) for line in plain) < 3:
        return []
    paths, folders = [], [(-1, "")]
    for line in plain:
        column = len(line) - len(line.lstrip())
        for name in re.split(r" {2,}", line.strip()):
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", name) or not re.search(r"[/.]|^Makefile$", name):
                break  # the comment
            while folders[-1][0] >= column:
                folders.pop()
            paths.append(folders[-1][1] + name)
            if name.endswith("/"):
                folders.append((column, paths[-1]))
    return paths


def exists(path: str) -> bool:
    """Whether the repository has it, or git ignores it as an output."""
    ignored = ["git", "check-ignore", "--quiet", "--no-index", path]
    return (ROOT / path).exists() or subprocess.run(ignored, cwd=ROOT).returncode == 0


def test_tree_reads_commented_trees() -> None:
    assert tree("a.yaml  b.yaml   what runs\nsrc/   code\n  x/   first\n    deeper/\n  y/   second/ and more\n") == [
        "a.yaml", "b.yaml", "src/", "src/x/", "src/x/deeper/", "src/y/",
    ]  # fmt: skip
    assert tree("src/\n├── x/   # first\n│   └── z.py\n└── y/\n") == ["src/", "src/x/", "src/x/z.py", "src/y/"]
    assert tree("make test   # all of tests/\n") == []


@each_document
def test_make_commands_have_targets(document: Path) -> None:
    for words in commands(document, "make"):
        targets = [word for word in words if "=" not in word]
        subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)


@each_document
def test_python_commands_have_modules(document: Path) -> None:
    for words in commands(document, r"python3? -m"):
        assert importlib.util.find_spec(words[0]), words
        assert all((ROOT / word).exists() for word in words[1:] if word.startswith("tests/")), words


@each_document
def test_dvc_commands_parse(document: Path) -> None:
    """Also that the stages and parameters exist."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for words in commands(document, "dvc"):
        if words[-1:] == ["-S"]:  # named without its value
            words.pop()
        options = get_main_parser().parse_args(words)
        if options.cmd in ("repro", "run"):
            assert set(options.targets) <= set(stages), words
        for change in getattr(options, "set_param", None) or []:
            value = yaml.safe_load(PARAMS.read_text())
            for key in change.split("=")[0].split("."):
                assert key in value, change
                value = value[key]


@each_document
def test_tinystories_commands_parse(document: Path) -> None:
    for words in filter(None, commands(document, "tinystories")):  # alone, it is the name
        parser(words[0]).parse_args(words)


@each_document
def test_paths_and_links_exist(document: Path) -> None:
    named = re.compile(r"(?:benchmarks|data|docs|models|reports|src|stages|tests)/[\w./-]*")
    assert [path for path in spans(document) if named.fullmatch(path) and not exists(path)] == []
    links = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def anchors(document: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_anchors_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", document.read_text(encoding="utf-8"))
    assert [link for link in links if link[1] not in anchors(document.parent / link[0] if link[0] else document)] == []


@each_document
def test_trees_exist(document: Path) -> None:
    assert [path for block in blocks(document) for path in tree(block) if not exists(path)] == []


def test_folders_of_the_library_are_named() -> None:
    named = [path for block in blocks(ROOT / "CONTRIBUTING.md") for path in tree(block)]
    assert {f"src/tinystories/{folder}/" for folder in FOLDERS} <= set(named)


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_pictures_are_small(path: Path) -> None:
    for name in re.findall(r"!\[.*?\]\((.*?)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / name).stat().st_size < 500_000
