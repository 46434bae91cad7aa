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

from tests.support.repository import ROOT, Repository
from tests.support.troubles import TROUBLES, Trouble

LONGEST = 300.0  # seconds of a command, on a busy machine


@dataclass(frozen=True)
class Moment:
    """When to strike: at one of the first `lines` lines that `program` runs in `places`; where there are none, anywhen.

    Lines of `slow` places wait a little, so that what goes on beside them is not over first. Where there is an `after`,
    lines count once this file has been written, by the stage `train`. `again`: where DVC has recorded that stage it is
    forced, for the results of a finished training are written again then.
    """

    name: str
    program: str
    places: str
    lines: int
    slow: str = ""
    after: str = ""
    again: bool = False


ENDING = "signals.py:__exit__"  # of the stage `train`, with its results written
FILES = " files.py:atomic_write files.py:write_text"
STORE = (
    " sqlalchemy_store.py:create_run sqlalchemy_store.py:log_batch sqlalchemy_store.py:_log_metrics_once"
    " sqlalchemy_store.py:_insert_metrics sqlalchemy_store.py:log_inputs mlflow_run.py:log mlflow_run.py:describe"
)
DVC = (
    "stage/cache.py:save stage/__init__.py:save_outs stage/__init__.py:commit dvcfile.py:dump_stages"
    " rwlock.py:_edit_rwlock repo/reproduce.py:_reproduce_stage"
)
HASHING = "hashfile/hash.py:file_md5 hashfile/hash.py:hash_file hashfile/build.py:_build_file"
COPYING = "hashfile/transfer.py:_add hashfile/transfer.py:_do_transfer fs/generic.py:transfer dvc_objects/db.py:add"
MOMENTS = (  # in the pipeline's order
    Moment("downloading", "download", "official.py:_try", 60),
    Moment("writing stories", "download", "stories.py:write stories.py:_flush" + FILES, 300),
    Moment("training the tokenizer", "train_tokenizer", "bpe.py:train_tokenizer" + FILES, 30),
    Moment("writing tokens", "tokenize_to_memmap", "writer.py:write_tokens encoder.py:encode_stories" + FILES, 60),
    Moment("in a step", "train", "training/step.py:step training/step.py:_run_once optimizer.py:update", 400),
    Moment("writing the state", "train", "resume.py:save" + FILES, 60),
    Moment("validating", "train", "loss_eval.py:evaluate_loss loss_eval.py:_windows", 60),
    Moment("sampling", "train", "generate.py:generate decoder.py:decode_step samples.py:render_samples", 60),
    Moment("streaming to MLflow", "train", "mlflow_store.py:create_database" + STORE, 80, slow="trainer.py:_log"),
    Moment("writing results", "train", "trainer.py:_write_results checkpoint.py:save_checkpoint", 25, again=True),
    Moment("results written", "train", f"{ENDING} threading.py:_shutdown", 10, again=True),
    Moment("DVC hashes results", "dvc", HASHING, 60, after="models/run.json", again=True),
    Moment("DVC copies results", "dvc", COPYING, 120, after="models/run.json", again=True),
    Moment("evaluating", "evaluate", "evaluation/evaluate.py:evaluate loss_eval.py:evaluate_loss" + FILES, 50),
    Moment("drawing", "plot", "reporting/plot.py:plot_run report.py:write_report" + FILES, 25),
    Moment(
        "publishing",
        "publish",
        "publishing/publish.py:_send_all mlflow_run.py:text run_choice.py:of_record" + STORE,
        80,
    ),
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
        self._steps = repository.path.with_suffix(".steps")
        self._halted: list[int] = []
        self.mended: Counter[str] = Counter()  # what a user would have to do

    def tracebacks(self) -> int:
        """How many the commands have printed."""
        return self.said("Traceback (most recent call last)")

    def said(self, words: str) -> int:
        """How often the commands have."""
        return self._log.read_text(errors="replace").count(words)

    def steps(self) -> Counter[str]:
        """How many steps were `trained`; how many of them `again`, as they had not been saved, or `though saved`."""
        done, saved, twice = [], 0, 0
        for what, step in (line.split() for line in self._steps.read_text().splitlines()):
            if what == "saved":
                saved = max(saved, int(step))
            else:
                done.append(int(step))
                twice += int(step) <= saved
        return Counter({"trained": len(done), "again": len(done) - len(set(done)) - twice, "though saved": twice})

    def strike(self, kill: Kill) -> Kill | None:
        """None where the process ended before it came to that line."""
        process = self._halt(kill.moment, kill.command, kill.line)
        if process is None:
            return None
        pid, place = self._marker.read_text().split() if kill.moment.places else (process.pid, "")
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

    def suffer(self, trouble: Trouble) -> Trouble | None:
        """Let DVC have it from the end of the training on, and mend it then; None where no training was left to end."""
        process = self._halt(Moment(trouble.name, "train", ENDING, 1, again=True), trouble.command, 1)
        if process is None:
            return None
        words, had_by = TROUBLES[trouble.name]
        told = self._log.stat().st_size
        with had_by(self.repository):
            self._marker.unlink()
            assert process.wait(LONGEST) != 0, f"DVC has recorded the training: {self._log}"
        assert words in self._log.read_text(errors="replace")[told:], f"DVC failed otherwise: {self._log}"
        self._mend()
        return trouble

    def _halt(self, moment: Moment, command: tuple[str, ...], line: int) -> "subprocess.Popen[bytes] | None":
        """Start the command, and return once it stands at that line; None where it ended before."""
        halt = {}
        until = time.monotonic() + (LONGEST if moment.places else self._draw.uniform(0, self._seconds))
        if moment.places:
            program = "dvc" if moment.program == "dvc" else f"stages/{moment.program}.py"
            at = {"program": program, "line": line, "marker": str(self._marker), "after": moment.after}
            at |= {"places": moment.places.split(), "slow": moment.slow.split()}
            halt = {"HALT_AT": json.dumps(at)}
            if program != "dvc" or moment.after:
                stage = "train" if moment.after else moment.program
                command = (*command, stage)  # no further, should that line not come
                recorded = self.repository.path / "dvc.lock"
                if moment.again and recorded.exists() and f"\n  {stage}:\n" in recorded.read_text():
                    command = (*command, "--force")
                    if "--temp" not in command:  # where the stages before are needed: nothing of theirs lies there
                        command = (*command, "--single-item")
        for attempt in (1, 2):
            process = self._start(command, halt)
            while process.poll() is None and not self._marker.exists() and time.monotonic() < until:
                time.sleep(0.01)
            if process.poll() is None:
                return process
            self._mend()
            if process.returncode == 0 or attempt == 2:
                break
            self.mended["run again"] += 1
        return None

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
        halt = {"PYTHONPATH": str(ROOT / "tests/support/halting"), "COUNT_STEPS": str(self._steps), **halt}
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
        for name in ("rwlock", "exps/rwlock"):
            locks = self.repository.path / ".dvc/tmp" / name
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
