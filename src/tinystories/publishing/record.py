"""Bring back all MLflow runs, after their database was lost: `python -m tinystories.publishing.record`.

The files of every commit and every experiment are in git and in DVC's cache, so each is published again from a
temporary clone. The workspace stays as it is.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tinystories.common import paths
from tinystories.common.console import info, warn
from tinystories.common.errors import UserError

# What `publish` reads; not the stories, which may be large.
FILES = (
    paths.RAW_MANIFEST, paths.RUN, paths.CHECKPOINT, paths.BEST, paths.EPOCH_CHECKPOINTS, paths.SAMPLES,
    paths.HISTORY, paths.EPOCHS, paths.TRAIN_METRICS, paths.EVALUATION, paths.STORIES, paths.CORPUS_FIGURES,
    paths.PLOT, paths.REPORT, paths.REPORT_HTML, paths.MODEL_CARD,
)  # fmt: skip
DVC = (sys.executable, "-m", "dvc")
_MISSING = "its files are not all in DVC's cache; if a remote has them, `dvc fetch --all-commits` brings them"


def publish_all(root: Path) -> int:
    """Publish every commit of a branch that changed dvc.lock, then every experiment. Returns how many failed.

    `root`: the user's repository. Errors: UserError where it is none of git and DVC.
    """
    log = _run(root, "git", "log", "--branches", "--reverse", "--format=%H", "--", "dvc.lock")
    results = [*((None, commit) for commit in log.split() if _has_run(root, commit)), *_experiments(root)]
    cache = _run(root, *DVC, "cache", "dir").strip()
    (root / ".state").mkdir(exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory(prefix="record-", dir=root / ".state") as directory:
        clone = Path(directory)
        _run(root, "git", "clone", "--quiet", "--shared", "--no-checkout", str(root), directory)
        for name, commit in results:
            try:
                _run(clone, "git", "checkout", "--quiet", "--force", "--detach", commit)
                _run(clone, *DVC, "cache", "dir", "--quiet", "--local", cache)
                _run(clone, *DVC, "checkout", "--quiet", "--force", *map(str, FILES), hint=_MISSING)
                info(f"{name or commit[:7]}: {_publish(clone, root, name)}")
            except UserError as error:
                failed += 1
                warn(f"{name or commit[:7]} is left out: {error}")
    return failed


def _has_run(root: Path, commit: str) -> bool:
    """Whether dvc.lock holds a training there; as it comes with the project, it has no stages."""
    try:
        return str(paths.RUN) in _run(root, "git", "show", f"{commit}:./dvc.lock")
    except UserError:  # the commit removed it
        return False


def _publish(clone: Path, root: Path, name: str | None) -> str:
    """Run the stage in the clone, as DVC does for the experiment `name`. Returns what it said."""
    environment = {key: value for key, value in os.environ.items() if key != "DVC_EXP_NAME"}
    environment |= {"DVC_ROOT": str(root)} | ({"DVC_EXP_NAME": name} if name else {})
    return _run(clone, sys.executable, str(root / "stages" / "publish.py"), environment=environment).strip()


def _experiments(root: Path) -> list[tuple[str | None, str]]:
    """Name and commit of each experiment."""
    # DVC keeps them as refs/exps/<2 digits of the base's hash>/<the other 38>/<name>.
    lines = _run(root, "git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps/??/*/*").splitlines()
    return [(ref.split("/", 4)[4], commit) for ref, commit in (line.rsplit(" ", 1) for line in lines)]


def _run(directory: Path, *command: str, environment: dict[str, str] | None = None, hint: str | None = None) -> str:
    """The command's output. Errors: UserError with the hint, else with the last line of what the command said."""
    try:
        done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines() or ["no word"]
        errors = [line for line in said if line.lower().startswith(("error", "fatal"))]
        raise UserError(hint or (errors or said)[-1])
    return done.stdout


if __name__ == "__main__":
    try:
        sys.exit(1 if publish_all(Path.cwd()) else 0)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
