"""dvc.yaml lists what each stage imports: a missing folder would let DVC serve a stale result. One test needs DVC."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.imports import CPP, closure, imported, is_empty
from tests.support.repository import ROOT, Repository

FILE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES: dict[str, dict[str, Any]] = FILE["stages"]
LIBRARY = ROOT / "src" / "tinystories"
ORDER = ["download", "train_tokenizer", "tokenize_to_memmap", "train", "evaluate", "plot", "publish"]


Deps = dict[str, set[Path]]


def listed(stage: str) -> Deps:
    """Return the code among a stage's deps: for each entry its files; a directory stands for all in it."""
    entries = [dep for dep in STAGES[stage]["deps"] if dep.startswith(("stages/", "src/"))]
    return {
        dep: {path for path in (ROOT / dep).rglob("*") if path.suffix in (".py", *CPP)}
        if (ROOT / dep).is_dir()
        else {ROOT / dep}
        for dep in entries
    }


def test_stages_are_the_design_with_a_script_each() -> None:
    assert list(STAGES) == ORDER
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} == set(ORDER)
    assert all(STAGES[name]["cmd"] == f"python stages/{name}.py" for name in ORDER)


@pytest.mark.parametrize("stage", ORDER)
def test_stage_runs_the_code_of_its_own_tree(stage: str, tmp_path: Path) -> None:
    """Also where Python does not look for imports in the folder of the script (-P), as companies set it."""
    for name in ("stages", "src/tinystories"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "src/tinystories/common/params.py").write_text("raise SystemExit('this copy')")
    command = [sys.executable, "-P", str(tmp_path / f"stages/{stage}.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "this copy\n")


def missing(deps: Deps, used: set[Path]) -> list[str]:
    """The used files that no entry holds."""
    held = set().union(*deps.values())
    return sorted(str(path.relative_to(ROOT)) for path in used - held if not is_empty(path))


def needless(deps: Deps, used: set[Path]) -> list[str]:
    """The entries of which no file is used."""
    real = {path for path in used if not is_empty(path)}
    return [entry for entry, files in deps.items() if not files & real]


@pytest.mark.parametrize("stage", ORDER)
def test_deps_hold_every_imported_file(stage: str) -> None:
    assert missing(listed(stage), closure(ROOT / f"stages/{stage}.py")) == []


@pytest.mark.parametrize("stage", ORDER)
def test_deps_list_no_folder_for_nothing(stage: str) -> None:
    assert needless(listed(stage), closure(ROOT / f"stages/{stage}.py")) == []


def test_missing_and_needless_find_wrong_deps() -> None:
    """C++ in a folder that is not listed; a folder from which nothing is imported."""
    deps, used = listed("evaluate"), closure(ROOT / "stages/evaluate.py")
    without_model = {entry: files for entry, files in deps.items() if entry != "src/tinystories/model"}
    assert "src/tinystories/model/cpu_kernels/attention.cpp" in missing(without_model, used)
    reporting = {"src/tinystories/reporting": set((LIBRARY / "reporting").glob("*.py"))}
    assert needless(deps | reporting, used) == ["src/tinystories/reporting"]


@pytest.mark.parametrize("stage", ORDER)
def test_stage_has_desc_and_few_code_deps(stage: str) -> None:
    assert len(listed(stage)) <= 8
    assert STAGES[stage]["desc"]


RERUN = {
    "api/model.py": [],
    "cli/main.py": [],
    "common/files.py": ORDER,
    "corpus/stories.py": ["download", "train_tokenizer", "tokenize_to_memmap"],
    "sources/storygen/grammar.py": ["download", "evaluate"],
    "tokenizer_training/bpe.py": ["train_tokenizer"],
    "tokenization/tokenizer.py": ["train_tokenizer", "tokenize_to_memmap", "train", "evaluate"],
    "encoding/encoder.py": ["tokenize_to_memmap"],
    "model/cpu_kernels/attention.cpp": ["train_tokenizer", "train", "evaluate"],
    "inference/generate.py": ["train", "evaluate"],
    "training/gpu/step.py": ["train"],
    "evaluation/evaluate.py": ["evaluate"],
    "export/gguf.py": [],
    "tracking/run_choice.py": ["train_tokenizer", "train", "publish"],
    "publishing/publish.py": ["publish"],
    "reporting/plot.py": ["plot"],
}


def test_edit_reruns_stages() -> None:
    """One file of each folder. A stage reruns by itself, or because an output of one before it has changed."""
    folders = {path.name for path in LIBRARY.iterdir() if (path / "__init__.py").exists()}
    assert {name.split("/")[0] for name in RERUN} == folders
    for name, stages in RERUN.items():
        assert (LIBRARY / name).is_file()
        assert [stage for stage in ORDER if LIBRARY / name in set().union(*listed(stage).values())] == stages, name


@pytest.mark.parametrize(
    "name",
    ["corpus/stories.py", "encoding/encoder.py", "model/cpu_kernels/attention.cpp", "tracking/run_choice.py"],
)
def test_dvc_reruns_the_stages_of_an_edit(finished: Repository, name: str) -> None:
    """DVC itself, with some rows of the table."""
    path = finished.path / "src/tinystories" / name
    before = path.read_text()
    comment = "#" if name.endswith(".py") else "//"
    try:
        path.write_text(f"{before}{comment} edited\n")
        status = json.loads(finished.run("dvc", "status", "--json"))
    finally:
        path.write_text(before)
    folder = f"src/tinystories/{name.split('/')[0]}"
    assert status == {stage: [{"changed deps": {folder: "modified"}}] for stage in RERUN[name]}


def test_artifacts_are_found_by_their_names(finished: Repository, tmp_path: Path) -> None:
    """By GTO and by DVC, which says nothing of a path that no stage writes."""
    for name, artifact in FILE["artifacts"].items():
        assert artifact["type"] == "model"
        finished.run("gto", "register", name)
        try:
            assert "v0.0.1" in finished.run("gto", "show", name)
            finished.run("dvc", "artifacts", "get", ".", name, "--out", str(tmp_path / name))
        finally:
            finished.run("git", "tag", "--delete", f"{name}@v0.0.1")
        assert (tmp_path / name / "model.safetensors").is_file()
    assert "up to date" in finished.run("dvc", "status")


def test_no_training_depends_on_what_is_published() -> None:
    def names(stage: str) -> list[str]:
        return [name for name in STAGES[stage].get("params", []) if isinstance(name, str)]

    assert [stage for stage in ORDER if "publish" in names(stage)] == ["evaluate"]  # those after it have all


def path_of(out: str | dict[str, Any]) -> str:
    """An output stands as its path, or by its path with what else is said of it."""
    return next(iter(out)) if isinstance(out, dict) else out


@pytest.mark.parametrize("stage", ORDER)
def test_data_deps_are_earlier_outputs(stage: str) -> None:
    before = {"data/own/parent"}
    for earlier in ORDER[: ORDER.index(stage)]:
        for kind in ("outs", "metrics", "plots"):
            before |= set(map(path_of, STAGES[earlier].get(kind, [])))
    data = {dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in ("data", "models", "reports")}
    assert data <= before


def test_gitignore_covers_outputs_and_their_parts() -> None:
    """Else `dvc exp run` would find a repository with untracked files, and `git add .` take them in."""
    kinds = ("outs", "metrics", "plots")
    listed = [out for stage in STAGES.values() for kind in kinds for out in stage.get(kind, [])]
    outs = [Path(path_of(out)) for out in listed]
    written = [str(path) for out in outs for path in (out, out.with_name(f".{out.name}.part"))]
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    done = subprocess.run(command, cwd=ROOT, input="\n".join(written), capture_output=True, text=True)
    assert outs
    assert done.stdout.splitlines() == written, done.stderr


def test_mlflow_yaml_and_dvc_have_few_importers() -> None:
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

    tracking = {"mlflow_store", "mlflow_run", "mlflow_models", "mlflow_registry", "champion", "served_model"}
    assert importers("mlflow") == tracking
    assert importers("yaml") == {"strict_yaml"}
    readers = {
        path.stem
        for path in (ROOT / "src").rglob("*.py")
        if ROOT / "src/tinystories/common/strict_yaml.py" in imported(path)
    }
    assert readers == {"params_file"}
    assert importers("dvc") == set()


def test_stage_scripts_are_short() -> None:
    for name in ORDER:
        lines = (ROOT / f"stages/{name}.py").read_text().splitlines()
        assert len(lines) <= 22, name
