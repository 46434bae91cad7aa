"""dvc.yaml says of each stage what it really reads: a missing module would let DVC serve a stale result."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
CPP = (".cpp", ".h")
ORDER = ["download", "train_tokenizer", "tokenize_to_memmap", "train", "evaluate", "plot", "publish"]


def imported(path: Path) -> set[Path]:
    """The project's own files that one file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            # `from .words import X` is meant from the package that the file lies in.
            around = path.relative_to(ROOT / "src").parts[: -node.level] if node.level else ()
            module = ".".join([*around, *(node.module or "").split(".")]).strip(".")
            names = [module, *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            place = Path(*name.split("."))
            for base in (ROOT / "src", ROOT / "stages"):
                candidates = (base / place.with_suffix(".py"), base / place / "__init__.py")
                found |= {candidate for candidate in candidates if candidate.exists()}
            # Importing a module runs the packages around it.
            inits = (ROOT / "src" / parent / "__init__.py" for parent in place.parents)
            found |= {init for init in inits if init.exists()}
    return found


def closure(path: Path) -> set[Path]:
    """A file and all of the project that it imports, directly or through others; C++ goes with its package."""
    seen, waiting = {path}, [path]
    while waiting:
        new = imported(waiting.pop()) - seen
        seen |= new
        waiting += new
    packages = [path.parent for path in seen if path.name == "__init__.py"]
    return seen | {source for package in packages for ending in CPP for source in package.glob(f"*{ending}")}


def listed(stage: str) -> set[Path]:
    """The project's code among a stage's deps; a directory stands for all in it."""
    files: set[Path] = set()
    for dep in STAGES[stage]["deps"]:
        path = ROOT / dep
        if path.is_dir():
            files |= set(path.rglob("*.py"))
        elif path.suffix in (".py", *CPP):
            files.add(path)
    return files


def test_the_stages_are_those_of_the_design_each_with_its_script() -> None:
    assert list(STAGES) == ORDER
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(ORDER)
    assert all(STAGES[name]["cmd"] == f"python stages/{name}.py" for name in ORDER)


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_runs_the_code_beside_it_wherever_it_is_run(stage: str, tmp_path: Path) -> None:
    """Also where Python does not look beside a script for what it imports, as companies set it."""
    for name in ("stages", "src/tinystories"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/tinystories/params.py").write_text("raise SystemExit('this copy')")
    command = [sys.executable, "-P", str(tmp_path / f"stages/{stage}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "this copy\n")


@pytest.mark.parametrize("stage", ORDER)
def test_deps_list_exactly_the_imported_modules(stage: str) -> None:
    real = closure(ROOT / f"stages/{stage}.py")
    assert {str(path.relative_to(ROOT)) for path in listed(stage)} == {str(path.relative_to(ROOT)) for path in real}


@pytest.mark.parametrize("stage", ORDER)
def test_every_file_between_stages_is_an_output_of_an_earlier_one(stage: str) -> None:
    before: set[str] = set()
    for earlier in ORDER[: ORDER.index(stage)]:
        for kind in ("outs", "metrics", "plots"):
            before |= set(STAGES[earlier].get(kind, []))
    data = {dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in ("data", "models", "reports")}
    assert data <= before


def test_git_ignores_the_outputs_and_what_a_kill_leaves_beside_them() -> None:
    """Else `dvc exp run` would find a repository with untracked files, and `git add .` take them in."""
    kinds = ("outs", "metrics", "plots")
    listed = [out for stage in STAGES.values() for kind in kinds for out in stage.get(kind, [])]
    outs = [Path(next(iter(out)) if isinstance(out, dict) else out) for out in listed]
    written = [str(path) for out in outs for path in (out, out.with_name(f".{out.name}.part"))]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(written), capture_output=True, text=True)
    assert outs
    assert done.stdout.splitlines() == written, done.stderr


def test_only_the_record_imports_mlflow_and_only_one_module_reads_params() -> None:
    def importers(package: str) -> set[str]:
        names = set()
        for path in (ROOT / "src").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    modules = [node.module or ""]
                else:
                    continue
                if any(module.split(".")[0] == package for module in modules):
                    names.add(path.stem)
        return names

    assert importers("mlflow") == {"mlflow_store", "tracking"}
    assert importers("yaml") == {"plain_yaml"}
    readers = {
        path.stem for path in (ROOT / "src").rglob("*.py") if ROOT / "src/tinystories/plain_yaml.py" in imported(path)
    }
    assert readers == {"params"}
    assert importers("dvc") == set()


def test_stage_scripts_hold_no_logic() -> None:
    for name in ORDER:
        lines = (ROOT / f"stages/{name}.py").read_text().splitlines()
        assert len(lines) <= 40, name
