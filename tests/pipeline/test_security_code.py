"""No code unpickles or runs what comes from outside, or listens to other hosts. One test needs DVC."""

import ast
import sys
from pathlib import Path

import pytest

from tests.support.repository import ROOT, Repository

SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "stages").glob("*.py")])

# What would unpickle, or run, what a file says.
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "pty"}
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "np.load", "numpy.load",
    "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load", "tarfile.open", "zipfile.ZipFile", "shutil.unpack_archive",
}  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_source_loads_no_pickle_and_runs_no_text(path):
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


def test_stages_unpickle_nothing_and_do_not_listen(finished: Repository, tmp_path: Path):
    """Python itself tells of every class that is looked up for a pickle."""
    repository = finished.copy(tmp_path / "project")
    (repository.path / "mlflow.db").unlink()
    repository.run(sys.executable, "-c", WATCHED)
    assert "FINISHED" in {run.info.status for run in repository.runs()}
