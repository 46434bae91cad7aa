"""Nothing that comes from outside runs, or is written outside of its place, or says a password."""

import ast
import json
import pickle
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.support.faulty_server import DATA, SHA256, Server, body, good, status
from tests.support.repository import ROOT, Repository
from tinystories.common import console, paths
from tinystories.common.artifacts import TokenFile
from tinystories.common.console import info, progress, warn
from tinystories.common.errors import UserError
from tinystories.common.files import checksum, sha256_of
from tinystories.common.params_file import load_params
from tinystories.common.urls import is_address, may_hold_credentials
from tinystories.model.checkpoint import load_checkpoint
from tinystories.sources import download
from tinystories.sources.download import fetch
from tinystories.sources.prepare import prepare
from tinystories.tokenization.token_files import open_tokens
from tinystories.tokenization.tokenizer import load_tokenizer
from tinystories.training.resume import ResumeCheckpoint

SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")])

# What would unpickle, or run, what a file says.
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "pty"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "np.load", "numpy.load",
    "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load", "tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive",
}  # fmt: skip


# Code


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_line_of_the_project_loads_pickle_or_runs_text(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        assert not {module.split(".")[0] for module in modules} & FORBIDDEN_MODULES
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in FORBIDDEN_CALLS, f"line {node.lineno}"
            options = {option.arg: ast.unparse(option.value) for option in node.keywords}
            assert not {"shell", "allow_pickle", "trust_remote_code"} & set(options), f"line {node.lineno}"
            assert name != "yaml.load" or options.get("Loader") == "_Loader", f"line {node.lineno}"


WATCHED = """
import sys
found = []

def watch(event, arguments):
    if event == "pickle.find_class":
        found.append((event, *map(str, arguments)))
    if event == "socket.bind" and arguments[1] and str(arguments[1][0]) not in ("127.0.0.1", "::1", "localhost"):
        found.append((event, str(arguments[1])))

sys.addaudithook(watch)
sys.path[:0] = ["stages", "src"]
import evaluate, plot, publish, train
from tinystories.common.params_file import load_params
for stage in (train, evaluate, plot, publish):
    stage.main(load_params())
assert not found, found
"""


def test_no_stage_unpickles_anything_or_listens_to_others(finished: Repository, tmp_path: Path):
    """Python itself tells of every class that is looked up for a pickle."""
    repository = finished.copy(tmp_path / "project")
    (repository.path / "mlflow.db").unlink()
    repository.run(sys.executable, "-c", WATCHED)
    assert "FINISHED" in {run.info.status for run in repository.runs()}


# Files that were made to do harm


class Harm:
    """Unpickled, it leaves a mark."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm").absolute(),)


def harmful_header(entries: dict[str, Any], data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
TENSOR_FILES = {
    "a pickle": pickle.dumps(Harm()),
    "a longer header than the file": struct.pack("<Q", 2**63) + b"{}",
    "an endless header": struct.pack("<Q", 10**6) + b"[" * 10**6,
    "offsets outside": harmful_header({"a": {**TENSOR, "data_offsets": [0, 2**40]}}, bytes(8)),
    "offsets before": harmful_header({"a": {**TENSOR, "data_offsets": [-8, 0]}}, bytes(8)),
    "a shape of 2^80": harmful_header({"a": {**TENSOR, "shape": [2**40, 2**40]}}, bytes(8)),
    "overlapping": harmful_header({"a": TENSOR, "b": TENSOR}, bytes(8)),
    "a path": harmful_header({"../../harm": TENSOR, "__metadata__": {"format": "../../harm"}}, bytes(8)),
    "a class": harmful_header({"a": {**TENSOR, "dtype": "os.system"}}, bytes(8)),
}


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current directory; whatever happens, nothing may have left the mark."""
    inside = tmp_path / "a" / "b" / "project"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.setenv("DVC_ROOT", str(inside))
    yield inside
    assert not list(tmp_path.rglob("harm*"))


def test_the_harm_is_real(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Harm()))
    assert Path("harm").exists()


@pytest.mark.parametrize("data", TENSOR_FILES.values(), ids=TENSOR_FILES)
def test_harmful_tensors_are_refused(empty, finished, data, capsys):
    shutil.copytree(finished.path / "models/checkpoint", paths.CHECKPOINT)
    for name in ("model.safetensors", "pytorch_model.bin", "model.pt", "training_args.bin"):
        (paths.CHECKPOINT / name).write_bytes(data)
    with pytest.raises(UserError, match=r"^models/checkpoint/model\.safetensors: "):
        load_checkpoint(paths.CHECKPOINT)

    state = empty / ".state/train/key/step-000000000001"
    state.mkdir(parents=True)
    (state / "tensors.safetensors").write_bytes(data)
    (state / "state.pt").write_bytes(data)
    progress = {"started": "then"}
    record = {"checksum": checksum(["key", progress], state / "tensors.safetensors"), "record": progress}
    (state / "record.json").write_text(json.dumps(record))
    assert ResumeCheckpoint(state.parent).load({}) is None


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(Harm()),
        b"[" * 100_000,
        b'{"version": "1.0", "model": {"type": "os.system"}}',
        b'{"version": "1.0", "model": {"type": "BPE", "vocab": {"../../harm": 0}, "merges": []}}',
        b'{"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "os.system"}, "model": null}',
    ],
    ids=["a pickle", "endless", "a class", "a path", "another class"],
)
def test_harmful_tokenizers_are_refused(empty, data):
    Path("tokenizer.json").write_bytes(data)
    with pytest.raises(UserError, match=r"^tokenizer\.json: "):
        load_tokenizer(Path("tokenizer.json"))


def test_a_harmful_token_file_is_nothing_but_numbers(empty):
    Path("train.bin").write_bytes(data := pickle.dumps(Harm()).ljust(200, b"\0"))
    tokens = open_tokens(
        Path("train.bin"), TokenFile(tokens=100, stories=1, bytes=1, sha256=sha256_of(Path("train.bin"))), 65_536
    )
    assert tokens.tobytes() == data


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch harm']",
        "!!python/object/new:os.system ['touch harm']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object/apply:subprocess.check_output [['touch', 'harm']]",
        "!harm 1",
    ],
)
def test_tags_in_params_run_nothing(empty, value):
    Path("params.yaml").write_text(f"seed: {value}\n")
    with pytest.raises(UserError, match=r"^params\.yaml: line 1, column 7: what begins with ! is a tag to YAML"):
        load_params()
    with pytest.raises(yaml.YAMLError):  # the parser's safe half, too
        yaml.safe_load(Path("params.yaml").read_text())


# What a server says


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.3)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_names_from_a_server_choose_no_place(empty, server, tmp_path):
    names = {"Content_Disposition": 'attachment; filename="../../../harm.txt"', "Content_Location": "/../../harm.txt"}
    server.answers = [status(302, Location="/..%2f..%2f..%2fharm.txt", **names), lambda h: good(h, headers=names)]
    url = f"http://127.0.0.1:{server.server_port}/..%2f..%2f..%2fharm.txt"
    fetch(url, Path("data/stories.txt"), size=len(DATA), sha256=SHA256)
    inside = files_below(empty) - {str(path.relative_to(empty)) for path in empty.glob(".state/downloads/*.lock")}
    assert inside == {"data/stories.txt"}
    assert files_below(tmp_path) == {f"a/b/project/{name}" for name in files_below(empty)}


def test_words_from_a_server_cannot_take_the_terminal(empty, server):
    """Escape sequences would move the cursor, change colours, or set the window's title."""

    def rude(handler):
        handler.send_response(404, "\x1b]0;owned\x07\x1b[2J")
        handler.end_headers()

    server.answers = [rude]
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    script = (
        "import sys; from pathlib import Path; from tinystories.sources.download import fetch;"
        "from tinystories.common.stage import run_stage; run_stage(lambda _: fetch(sys.argv[1], Path('a.txt')))"
    )
    url = f"http://127.0.0.1:{server.server_port}/a.txt"
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"error: {url}: the server answers 404 \\x1b]0;owned\\x07\\x1b[2J; expected the file\n"


def test_words_from_outside_stay_on_their_line(capsys, monkeypatch):
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


def test_a_name_from_outside_beside_the_live_bar_is_plain(monkeypatch):
    out = StringIO()
    monkeypatch.setattr(console, "_console", Console(file=out, force_terminal=True, width=200))
    with progress("Downloading a\x1b]0;title\x07b", total=1) as bar:
        bar.advance(1)
    assert "Downloading a\\x1b]0;title\\x07b" in out.getvalue()
    assert "\x1b]0;" not in out.getvalue()


# Credentials

SECRETS = ("hunter2", "t0ken", "s0mebody")
ADDRESSES = [
    "https://s0mebody:hunter2@host.example/x.txt",
    "https://s0mebody@host.example/x.txt",
    "https://host.example/x.txt?sig=t0ken",
    "https://host.example/x.txt#t0ken",
    "https://s0mebody:hun/ter2hunter2@host.example",
    "https:/s0mebody:hunter2@host.example/x.txt",
    " HTTPS://s0mebody:hunter2@host.example/x.txt",
    "https://some body:hun'ter2@host.example/hunter2",
]


@pytest.mark.parametrize("key", ["data.files.train", "data.files.valid", "mlflow.tracking_uri"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_with_credentials_is_refused_and_not_repeated(empty, key, address):
    """params.yaml is in git, and DVC copies its values into dvc.lock and its cache."""
    write_params({key: address})
    with pytest.raises(UserError) as caught:
        load_params()
    message = str(caught.value)
    assert message.startswith(
        f"params.yaml: {key} is an address (not shown); it should have no user, password or query"
    )
    assert ("MLFLOW_TRACKING_URI" if key.startswith("mlflow") else "~/.netrc") in message
    assert not any(secret in message for secret in SECRETS) and len(message.splitlines()) == 1


@pytest.mark.parametrize("wrong", [[ADDRESSES[0]], {"a": [ADDRESSES[0]]}, [[["x" * 50 + ADDRESSES[0]]]]])
def test_an_address_in_a_wrong_place_is_not_repeated(empty, wrong):
    write_params({"data.files.train": wrong})
    with pytest.raises(UserError) as caught:
        load_params()
    assert not any(secret in str(caught.value) for secret in ("hunter2", "s0mebody:"))


@pytest.mark.parametrize(
    ("text", "address", "credentials"),
    [
        ("", False, False),
        ("my/stories?.txt", False, False),
        ("data@2024/#1/*.txt", False, False),
        ("C:/stories/a@b.txt", False, False),
        ("https://host.example:8080/a%20b.txt", True, False),
        ("sqlite:///mlflow.db", True, False),
        ("postgresql://s0mebody:hunter2@host.example/mlflow", True, True),
    ],
)
def test_what_is_taken_for_an_address(text, address, credentials):
    assert (is_address(text), may_hold_credentials(text)) == (address, credentials)


def write_params(changes: dict[str, Any]) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = values
        for part in sections:
            section = section[part]
        section[name] = value
    Path("params.yaml").write_text(yaml.safe_dump(values))


def test_a_password_in_netrc_is_used_and_stays_there(empty, server, tmp_path, monkeypatch, capsys):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login s0mebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    stories = b"".join(b"Story %d.\n<|endoftext|>\n" % number for number in range(400))
    server.answers = [body(stories, Content_Type="text/plain")]
    url = f"http://127.0.0.1:{server.server_port}/stories.txt"
    write_params({"data.source": "files", "data.files.train": url})
    prepare(load_params())
    assert server.requests[0]["Authorization"] == "Basic czBtZWJvZHk6aHVudGVyMg=="
    assert json.loads(paths.RAW_MANIFEST.read_text())["detail"]["train"][0]["path"] == url
    said = capsys.readouterr()
    kept = [path.read_text(errors="ignore") for path in empty.rglob("*") if path.is_file()]
    assert not any(secret in text for secret in SECRETS for text in (said.out, said.err, *kept))


def test_another_host_does_not_get_the_password(empty, server, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine localhost login s0mebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.answers = [status(302, Location=f"http://127.0.0.1:{server.server_port}/b.txt")]
    fetch(f"http://localhost:{server.server_port}/a.txt", Path("a.txt"))
    assert ["Authorization" in headers for headers in server.requests] == [True, False]


def test_a_proxys_password_is_not_said(empty, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download, "STALL_TIMEOUT", 0.1)
    monkeypatch.setenv("HTTP_PROXY", "http://s0mebody:hunter2@127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://s0mebody:hunter2@127.0.0.1:9")
    with pytest.raises(UserError, match=r"the proxy \(HTTP_PROXY, HTTPS_PROXY\) does not connect") as caught:
        fetch("http://host.example/a.txt", Path("a.txt"))
    assert not any(secret in str(caught.value) for secret in SECRETS)


def test_the_pipeline_keeps_no_credentials(finished: Repository, tmp_path: Path):
    """Neither of an address in params.yaml, which is refused, nor of the one in the environment."""
    repository = finished.copy(tmp_path / "project")
    repository.change(data__source="files", data__files__train=ADDRESSES[0], mlflow__tracking_uri=ADDRESSES[0])
    params = repository.path / "params.yaml"
    said = repository.run("dvc", "repro", fails=True)
    assert "data.files.train is an address (not shown)" in said
    params.unlink()
    repository.run("git", "checkout", "params.yaml")
    repository.run("dvc", "checkout")  # what DVC took away before the stage refused
    repository.environment["MLFLOW_TRACKING_URI"] = "http://s0mebody:hunter2@127.0.0.1:9/?token=t0ken"
    repository.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    shutil.rmtree(repository.path / ".state/train")  # else nothing is trained, and nothing streamed
    said += repository.run("dvc", "repro", "--force", "--single-item", "train")
    said += repository.run("dvc", "repro", "--force", "--single-item", "publish", fails=True)
    assert "warning: MLflow at http://127.0.0.1:9" in said and "error: MLflow at http://127.0.0.1:9" in said
    kept = [path for path in repository.path.rglob("*") if path.is_file() and "src" not in path.parts]
    assert any(path.name == "dvc.lock" for path in kept) and any("runs" in path.parts for path in kept)
    tests = repository.path / "tests"
    for secret in SECRETS:
        assert secret not in said
        holders = [path for path in kept if secret.encode() in path.read_bytes() and not path.is_relative_to(tests)]
        assert not holders, holders
