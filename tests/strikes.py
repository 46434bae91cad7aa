"""Striking a pipeline with signals at chosen moments, and letting it end: for torture.py and test_torture.py."""

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

from tests.repository import ROOT, Repository

LONGEST = 300.0  # seconds of a command, on a busy machine


@dataclass(frozen=True)
class Moment:
    """When to strike: at one of the first `lines` lines that `program` runs in `places`; where there are none, anywhen.

    Lines of `slow` places wait a little, so that what goes on beside them is not over first.
    """

    name: str
    program: str
    places: str
    lines: int
    slow: str = ""


FILES = " files.py:whole_file files.py:write_text"
STORE = (
    " sqlalchemy_store.py:create_run sqlalchemy_store.py:log_batch sqlalchemy_store.py:_log_metrics_once"
    " sqlalchemy_store.py:_insert_metrics sqlalchemy_store.py:log_inputs tracking.py:log tracking.py:describe"
)
DVC = (
    "stage/cache.py:save stage/__init__.py:save_outs stage/__init__.py:commit dvcfile.py:dump_stages"
    " rwlock.py:_edit_rwlock repo/reproduce.py:_reproduce_stage"
)
MOMENTS = (  # in the pipeline's order
    Moment("downloading", "download", "transfer.py:_try", 60),
    Moment("writing stories", "download", "corpus.py:write corpus.py:_flush" + FILES, 300),
    Moment("training the tokenizer", "train_tokenizer", "tokenizer.py:train_tokenizer" + FILES, 30),
    Moment("writing tokens", "tokenize_to_memmap", "tokens.py:write_tokens encoding.py:encode_stories" + FILES, 60),
    Moment("in a step", "train", "engine.py:step engine.py:_run optimizer.py:update", 400),
    Moment("writing the state", "train", "state.py:save" + FILES, 60),
    Moment("validating", "train", "scoring.py:score scoring.py:_sum", 60),
    Moment("sampling", "train", "generation.py:generate decoder.py:_forward samples.py:sample_page", 60),
    Moment("streaming to MLflow", "train", "mlflow_store.py:_create_database" + STORE, 80, slow="training.py:_log"),
    Moment("writing results", "train", "training.py:_write_results checkpoint.py:save_checkpoint", 25),
    Moment("evaluating", "evaluate", "evaluation.py:evaluate scoring.py:score" + FILES, 50),
    Moment("drawing", "plot", "plotting.py:plot_run report.py:write_report" + FILES, 25),
    Moment("publishing", "publish", "tracking.py:_send_all tracking.py:text run_choice.py:of_record" + STORE, 80),
    Moment("between stages", "dvc", DVC, 300),
    Moment("at any time", "dvc", "", 0),
)


@dataclass(frozen=True)
class Kill:
    """One signal, sent once; and what came of it."""

    moment: Moment
    signal: signal.Signals
    target: str  # "stage", "dvc", or "group": both, as Ctrl-C in a terminal does
    command: tuple[str, ...]  # of dvc
    line: int
    place: str = ""
    seconds: float = 0.0  # from the signal to the end of the process that was halted
    identical: bool = False


class Chain:
    """A repository that is struck again and again before its pipeline may end."""

    def __init__(self, repository: Repository, draw: random.Random, seconds: float) -> None:
        """`seconds`: how long the pipeline takes."""
        self.repository = repository
        self._draw, self._seconds = draw, seconds
        self._log = repository.path.with_suffix(".log")
        self._marker = repository.path.with_suffix(".marker")
        self._halted: list[int] = []
        self.mended: Counter[str] = Counter()  # what a user would have to do

    def tracebacks(self) -> int:
        """How many the commands have printed."""
        return self._log.read_text(errors="replace").count("Traceback (most recent call last)")

    def strike(self, kill: Kill) -> Kill | None:
        """None where the process ended before it came to that line."""
        moment, command, halt = kill.moment, kill.command, {}
        until = time.monotonic() + (LONGEST if moment.places else self._draw.uniform(0, self._seconds))
        if moment.places:
            program = "dvc" if moment.program == "dvc" else f"stages/{moment.program}.py"
            at = {"program": program, "line": kill.line, "marker": str(self._marker)}
            at |= {"places": moment.places.split(), "slow": moment.slow.split()}
            halt = {"PYTHONPATH": str(ROOT / "tests/halting"), "HALT_AT": json.dumps(at)}
            if program != "dvc":
                command = (*command, moment.program)  # no further, should that line not come
        for attempt in (1, 2):
            process = self._start(command, halt)
            while process.poll() is None and not self._marker.exists() and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                break
            self._mend()
            if process.returncode == 0 or attempt == 2:
                return None
            self.mended["run again"] += 1
        pid, place = self._marker.read_text().split() if moment.places else (process.pid, "")
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
        process.wait(LONGEST)
        self._mend()
        return replace(kill, place=place, seconds=seconds)

    def finish(self, command: tuple[str, ...]) -> None:
        """Let the pipeline end, and have its results in the workspace: after `--temp` they come from DVC's cache."""
        for one in (command, ("repro",)):
            for last_try in (False, False, True):
                if self._start(one, {}).wait(LONGEST) == 0:
                    break
                assert not last_try, f"the command fails again and again: {self._log}"
                self.mended["run again"] += 1
                self._mend()
        for pid in self._halted:  # a stage may outlive its DVC
            await_end(pid)

    def _start(self, command: tuple[str, ...], halt: dict[str, str]) -> "subprocess.Popen[bytes]":
        with self._log.open("ab") as log:
            log.write(f"\n$ dvc {' '.join(command)}\n".encode())
            return subprocess.Popen(
                ["dvc", *command], cwd=self.repository.path, env=self.repository.environment | halt,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def _mend(self) -> None:
        """What DVC, killed, may leave behind: locks, git on a detached HEAD. README, Troubleshooting."""
        index_lock, until = self.repository.path / ".git/index.lock", time.monotonic() + 2
        while index_lock.exists():
            if time.monotonic() > until:  # nobody holds it any more
                index_lock.unlink()
                self.mended["rm index.lock"] += 1
            time.sleep(0.01)
        if (self.repository.path / ".git/HEAD").read_text() != "ref: refs/heads/main\n":
            self.repository.run("git", "checkout", "main")
            self.mended["git checkout"] += 1
        locks = self.repository.path / ".dvc/tmp/rwlock"
        if locks.exists() and not locks.read_text().endswith("}"):
            locks.unlink()
            self.mended["rm rwlock"] += 1


def await_end(pid: int) -> None:
    """Of a process that is no child of this one, and may stay as a zombie."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process, until = psutil.Process(pid), time.monotonic() + LONGEST
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < until, f"process {pid} does not end"
            time.sleep(0.01)
