"""The GitHub workflow: its form, its permissions, its commands. One test needs actionlint, else it is skipped."""

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.support.repository import ROOT

FILE = ROOT / ".github/workflows/check.yml"
WORKFLOW: dict[str, Any] = yaml.safe_load(FILE.read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_workflow_passes_actionlint() -> None:
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not installed")
    done = subprocess.run([program, str(FILE)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actions_are_pinned_by_commit() -> None:
    lines = re.findall(r"uses: (.*)", FILE.read_text())
    assert len(lines) == sum("uses" in step for step in STEPS) > 0
    assert [line for line in lines if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line)] == []


def test_only_the_comment_may_write_and_it_runs_no_code_of_the_pull_request() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    given = {name: job["permissions"] for name, job in WORKFLOW["jobs"].items() if "permissions" in job}
    assert given == {"comment": {"pull-requests": "write"}}
    assert not any("uses" in step for step in WORKFLOW["jobs"]["comment"]["steps"])
    tokens = [step for step in STEPS if "checkout@" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in tokens)
    assert not [step for step in STEPS if "${{" in step.get("run", "")], "values go into a script by variables alone"


def test_make_targets_exist() -> None:
    commands = [line.strip() for step in STEPS for line in step.get("run", "").splitlines()]
    targets = {line.removeprefix("make ") for line in commands if line.startswith("make ")}
    assert targets == {"lint", "test", "quickstart"}
    subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True, timeout=60)
