"""Kill a pipeline at chosen points, and let it finish. Used by torture.py and tests/pipeline/test_torture.py."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, replace

import psutil

from tests.support.repository import ROOT, Repository
from tests.support.troubles import TROUBLES, Trouble

MAX_SECONDS = 300.0  # seconds of a command, on a busy machine


@dataclass(frozen=True)
class KillPoint:
    """Where to kill: at one of the first `lines` lines that `program` runs in `places`; without places, at any time.

    Lines of `slow` places wait a little, so that what other threads do meanwhile is not over first. With `after`,
    lines count once this file has been written by the stage `train`. `again`: where DVC has recorded that stage it is
    forced, because the results of a finished training are written again then.
    """

    name: str
    program: str
    places: str
    lines: int
    slow: str = ""
    after: str = ""
    again: bool = False


ENDING = "signals.py:__exit__"  # of the stage `train`, with its results written
RESULTS = "results.py:write_results results.py:train_metrics checkpoint.py:copy_checkpoint"
FILES = " files.py:atomic_write files.py:write_text"
STORE = (
    " sqlalchemy_store.py:create_run sqlalchemy_store.py:log_batch sqlalchemy_store.py:_log_metrics_once"
    " sqlalchemy_store.py:_insert_metrics sqlalchemy_store.py:log_inputs"
    " mlflow_run.py:log_metrics mlflow_run.py:log_params_and_tags"
)
DVC = (
    "stage/cache.py:save stage/__init__.py:save_outs stage/__init__.py:commit dvcfile.py:dump_stages"
    " rwlock.py:_edit_rwlock repo/reproduce.py:_reproduce_stage"
)
HASHING = "hashfile/hash.py:file_md5 hashfile/hash.py:hash_file hashfile/build.py:_build_file"
COPYING = "hashfile/transfer.py:_add hashfile/transfer.py:_do_transfer fs/generic.py:transfer dvc_objects/db.py:add"
KILL_POINTS = (  # in the pipeline's order
    KillPoint("writing stories", "download", "stories.py:write stories.py:_flush" + FILES, 300),
    KillPoint("training the tokenizer", "train_tokenizer", "bpe.py:train_on_blocks merges.py:learn_merges" + FILES, 30),
    KillPoint("writing tokens", "tokenize_to_memmap", "writer.py:write_blocks encoder.py:encode_blocks" + FILES, 60),
    KillPoint("in a step", "train", "training/step.py:step training/step.py:_step_body optimizer.py:update", 400),
    KillPoint("writing the state", "train", "resume.py:save" + FILES, 60),
    KillPoint("validating", "train", "loss_eval.py:evaluate_loss loss_eval.py:_windows loss_eval.py:windows_loss", 60),
    KillPoint("sampling", "train", "generate.py:generate decoder.py:decode_step samples.py:render_samples", 60),
    KillPoint("logging to MLflow", "train", "mlflow_store.py:create_database" + STORE, 80, slow="trainer.py:_log"),
    KillPoint(
        "keeping an epoch's weights",
        "train",
        "trainer.py:_end_epoch kept_epochs.py:keep_weights checkpoint.py:save_checkpoint",
        40,
    ),
    KillPoint("writing results", "train", f"{RESULTS} checkpoint.py:save_checkpoint", 90, again=True),
    KillPoint("results written", "train", f"{ENDING} threading.py:_shutdown", 10, again=True),
    KillPoint("DVC hashes results", "dvc", HASHING, 60, after="models/run.json", again=True),
    KillPoint("DVC copies results", "dvc", COPYING, 120, after="models/run.json", again=True),
    KillPoint("evaluating", "evaluate", "evaluation/evaluate.py:evaluate loss_eval.py:evaluate_loss" + FILES, 50),
    KillPoint(
        "drawing",
        "plot",
        "reporting/figure.py:plot_run report.py:write_report html_report.py:write_html_report" + FILES,
        40,
    ),
    KillPoint(
        "publishing",
        "publish",
        "publishing/publish.py:_send_all mlflow_run.py:log_text run_choice.py:run_to_publish" + STORE,
        80,
    ),
    KillPoint("between stages", "dvc", DVC, 300),
    KillPoint("at any time", "dvc", "", 0),
)


@dataclass(frozen=True)
class Kill:
    """One signal, sent once; and what came of it."""

    point: KillPoint
    signal: signal.Signals
    target: str  # "stage", "dvc", or "group": both, as Ctrl-C in a terminal does
    command: tuple[str, ...]  # of dvc
    line: int
    place: str = ""
    seconds: float = 0.0  # from the signal to the end of the process that was halted
    identical: bool = False


class Chain:
    """A repository that is killed several times before its pipeline may finish."""

    def __init__(self, repository: Repository, draw: random.Random, seconds: float) -> None:
        """`seconds`: how long the pipeline takes."""
        self.repository = repository
        self._draw, self._seconds = draw, seconds
        self._log = repository.path.with_suffix(".log")
        self._marker = repository.path.with_suffix(".marker")
        self._steps = repository.path.with_suffix(".steps")
        self._halted: list[int] = []
        self.repaired: Counter[str] = Counter()  # what a user would have to do, and how often

    def tracebacks(self) -> int:
        """How many tracebacks the commands have printed."""
        return self.said("Traceback (most recent call last)")

    def said(self, words: str) -> int:
        """How often the commands have printed these words."""
        return self._log.read_text(errors="replace").count(words)

    def steps(self) -> Counter[str]:
        """Count the steps that were `trained`; of them `again` because they had not been saved, and `though saved`."""
        done, saved, twice = [], 0, 0
        for what, step in (line.split() for line in self._steps.read_text().splitlines()):
            if what == "saved":
                saved = max(saved, int(step))
            else:
                done.append(int(step))
                twice += int(step) <= saved
        return Counter({"trained": len(done), "again": len(done) - len(set(done)) - twice, "though saved": twice})

    def kill(self, kill: Kill) -> Kill | None:
        """Send the signal at that line. None where the process ended before it."""
        process = self._halt(kill.point, kill.command, kill.line)
        if process is None:
            return None
        pid, place = self._marker.read_text().split() if kill.point.places else (process.pid, "")
        self._halted.append(int(pid))
        started = time.monotonic()
        if kill.target == "group":
            os.killpg(process.pid, kill.signal)
        else:
            os.kill(int(pid) if kill.target == "stage" else process.pid, kill.signal)
        self._marker.unlink(missing_ok=True)
        if kill.target != "dvc":
            await_end(int(pid))
        seconds = time.monotonic() - started
        process.wait(MAX_SECONDS)
        self._repair()
        return replace(kill, place=place, seconds=seconds)

    def suffer(self, trouble: Trouble) -> Trouble | None:
        """Cause the trouble from the end of the training on, then remove it. None where no training was left to end."""
        process = self._halt(KillPoint(trouble.name, "train", ENDING, 1, again=True), trouble.command, 1)
        if process is None:
            return None
        words, had_by = TROUBLES[trouble.name]
        told = self._log.stat().st_size
        with had_by(self.repository):
            self._marker.unlink()
            assert process.wait(MAX_SECONDS) != 0, f"DVC has recorded the training: {self._log}"
        assert words in self._log.read_text(errors="replace")[told:], f"DVC failed otherwise: {self._log}"
        self._repair()
        return trouble

    def _halt(self, point: KillPoint, command: tuple[str, ...], line: int) -> "subprocess.Popen[bytes] | None":
        """Start the command, and return once it stands at that line; None where it ended before."""
        halt = {}
        until = time.monotonic() + (MAX_SECONDS if point.places else self._draw.uniform(0, self._seconds))
        if point.places:
            program = "dvc" if point.program == "dvc" else f"stages/{point.program}.py"
            at = {"program": program, "line": line, "marker": str(self._marker), "after": point.after}
            at |= {"places": point.places.split(), "slow": point.slow.split()}
            halt = {"HALT_AT": json.dumps(at)}
            if program != "dvc" or point.after:
                stage = "train" if point.after else point.program
                command = (*command, stage)  # no further, should that line not come
                recorded = self.repository.path / "dvc.lock"
                if point.again and recorded.exists() and f"\n  {stage}:\n" in recorded.read_text():
                    command = (*command, "--force")
                    if "--temp" not in command:  # where the stages before are needed: nothing of theirs lies there
                        command = (*command, "--single-item")
        for attempt in (1, 2):
            process = self._start(command, halt)
            while process.poll() is None and not self._marker.exists() and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                return process
            self._repair()
            if process.returncode == 0 or attempt == 2:
                break
            self.repaired["run again"] += 1
        return None

    def finish(self, command: tuple[str, ...]) -> None:
        """Let the pipeline end, and have its results in the workspace: after `--temp` they come from DVC's cache."""
        for one in (command, ("repro",)):
            for last_try in (False, False, True):
                if self._start(one, {}).wait(MAX_SECONDS) == 0:
                    break
                assert not last_try, f"the command fails again and again: {self._log}"
                self.repaired["run again"] += 1
                self._repair()
        for pid in self._halted:  # a stage may outlive its DVC
            await_end(pid)

    def _start(self, command: tuple[str, ...], halt: dict[str, str]) -> "subprocess.Popen[bytes]":
        halt = {"PYTHONPATH": str(ROOT / "tests/support/halting"), "COUNT_STEPS": str(self._steps), **halt}
        with self._log.open("ab") as log:
            log.write(f"\n$ dvc {' '.join(command)}\n".encode())
            return subprocess.Popen(
                ["dvc", *command], cwd=self.repository.path, env=self.repository.environment | halt,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _repair(self) -> None:
        """Remove what a killed DVC may leave: locks, git on a detached HEAD. See README, Troubleshooting."""
        index_lock, until = self.repository.path / ".git/index.lock", time.monotonic() + 2
        while index_lock.exists():
            if time.monotonic() > until:  # its holder has ended
                index_lock.unlink()
                self.repaired["rm index.lock"] += 1
            time.sleep(0.01)
        if (self.repository.path / ".git/HEAD").read_text() != "ref: refs/heads/main\n":
            self.repository.run("git", "checkout", "main")
            self.repaired["git checkout"] += 1
        for name in ("rwlock", "exps/rwlock"):
            locks = self.repository.path / ".dvc/tmp" / name
            if locks.exists() and not locks.read_text().endswith("}"):
                locks.unlink()
                self.repaired["rm rwlock"] += 1


def await_end(pid: int) -> None:
    """Wait for the end of a process that is no child of this one and may stay as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process, until = psutil.Process(pid), time.monotonic() + MAX_SECONDS
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, f"process {pid} does not end"
            time.sleep(0.01)
