"""dvc.yaml says of each stage what it really reads: a missing module would let DVC serve a stale result."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.imports import CPP, closure, imported, is_empty
from tests.support.repository import ROOT

STAGES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
LIBRARY = ROOT / "src" / "tinystories"
ORDER = ["download", "train_tokenizer", "tokenize_to_memmap", "train", "evaluate", "plot", "publish"]


def listed(stage: str) -> dict[str, set[Path]]:
    """The project's code among a stage's deps: the files of each entry; a directory stands for all in it."""
    entries = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", "src/"))]
    return {
        dep: {path for path in (ROOT / dep).rglob("*") if path.suffix in (".py", *CPP)}
        if (ROOT / dep).is_dir()
        else {ROOT / dep}
        for dep in entries
    }


def test_the_stages_are_those_of_the_design_each_with_its_script() -> None:
    assert list(STAGES) == ORDER
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(ORDER)
    assert all(STAGES[name]["cmd"] == f"python stages/{name}.py" for name in ORDER)


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_runs_the_code_beside_it_wherever_it_is_run(stage: str, tmp_path: Path) -> None:
    """Also where Python does not look beside a script for what it imports, as companies set it."""
    for name in ("stages", "src/tinystories"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/tinystories/common/params.py").write_text("raise SystemExit('this copy')")
    command = [sys.executable, "-P", str(tmp_path / f"stages/{stage}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "this copy\n")


@pytest.mark.parametrize("stage", ORDER)
def test_every_imported_file_lies_in_a_listed_folder(stage: str) -> None:
    files = set().union(*listed(stage).values())
    missing = {path for path in closure(ROOT / f"stages/{stage}.py") - files if not is_empty(path)}
    assert {str(path.relative_to(ROOT)) for path in missing} == set()


@pytest.mark.parametrize("stage", ORDER)
def test_every_listed_folder_is_reached(stage: str) -> None:
    real = {path for path in closure(ROOT / f"stages/{stage}.py") if not is_empty(path)}
    assert [entry for entry, files in listed(stage).items() if not files & real] == []


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_lists_at_most_eight_entries_of_code_and_says_what_it_does(stage: str) -> None:
    assert len(listed(stage)) <= 8
    assert STAGES[stage]["desc"]


RERUN = {
    "common/files.py": ORDER,
    "corpus/stories.py": ["download", "train_tokenizer", "tokenize_to_memmap"],
    "sources/storygen/grammar.py": ["download"],
    "tokenizer_training/bpe.py": ["train_tokenizer"],
    "tokenization/tokenizer.py": ["train_tokenizer", "tokenize_to_memmap", "train", "evaluate"],
    "encoding/encoder.py": ["tokenize_to_memmap"],
    "model/cpu_kernels/attention.cpp": ["train", "evaluate"],
    "inference/generate.py": ["train", "evaluate"],
    "training/gpu/step.py": ["train"],
    "evaluation/evaluate.py": ["evaluate"],
    "tracking/run_choice.py": ["train", "publish"],
    "publishing/publish.py": ["publish"],
    "reporting/plot.py": ["plot"],
}


def test_which_edit_reruns_which_stages() -> None:
    """One file of each folder. A stage reruns by itself, or because an output of one before it has changed."""
    folders = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert {name.split("/")[0] for name in RERUN} == folders
    for name, stages in RERUN.items():
        assert (LIBRARY / name).is_file()
        assert [stage for stage in ORDER if LIBRARY / name in set().union(*listed(stage).values())] == stages, name


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

    assert importers("mlflow") == {"mlflow_store", "mlflow_run"}
    assert importers("yaml") == {"strict_yaml"}
    readers = {
        path.stem
        for path in (ROOT / "src").rglob("*.py")
        if ROOT / "src/tinystories/common/strict_yaml.py" in imported(path)
    }
    assert readers == {"params_file"}
    assert importers("dvc") == set()


def test_stage_scripts_hold_no_logic() -> None:
    for name in ORDER:
        lines = (ROOT / f"stages/{name}.py").read_text().splitlines()
        assert len(lines) <= 40, name
