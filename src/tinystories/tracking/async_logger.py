"""Log a training to MLflow from a background thread, so that the training never waits."""

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tinystories.common.console import info, warn
from tinystories.common.errors import UserError
from tinystories.common.urls import shown_address
from tinystories.tracking.mlflow_run import MlflowRun, Status, error_summary, open_run_to_log
from tinystories.tracking.run_data import MetricPoint

MAX_STOP_SECONDS = 5.0  # seconds that the user who stops a training waits for MLflow
MAX_END_SECONDS = 10.0  # seconds that MLflow may delay the end of a training
SEND_EVERY = 2.0  # seconds: many points in one call, because a call costs tens of milliseconds
FIRST_RETRY, MAX_RETRY = 5.0, 60.0  # seconds until a store that failed is tried again; doubled each time
MAX_QUEUED = 10_000  # rows and texts that wait for a store; `publish` sends the others

_Text = tuple[str, str]  # an artifact's path and content


class AsyncRunLogger:
    """Log metrics and texts to a run in the background: training never waits for MLflow, nor stops because of it.

    A failure of MLflow is one warning. The logger tries again until the training ends; `publish` sends what is missing.
    """

    def __init__(
        self,
        *,
        uri: str,
        experiment: str,
        root: Path,
        key: str,
        run_id: str | None,
        name: str | None,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Start to open the run of `run_id`, else that of `key`, else a new one called `name`. Returns at once.

        `root`: the user's repository. `params` and `tags`: see `metrics.flat_params` and `metrics.environment_tags`.
        """
        self._uri = uri
        self._open = partial(
            open_run_to_log, uri=uri, experiment=experiment, root=root, key=key, params=params, name=name
        )
        self._known_id = run_id
        self._params, self._tags = dict(params), dict(tags)
        self._run: MlflowRun | None = None
        self._monitor: Any = None  # of the machine's load
        self._status: Status | None = None  # how the training ended, once it has
        self._opened = time.monotonic()
        self._has_warned = False
        self._queue: queue.Queue[list[MetricPoint] | _Text | None] = queue.Queue(MAX_QUEUED)
        self._unsent: list[list[MetricPoint] | _Text] = []
        self._closed = threading.Event()
        # A daemon: a call that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._send_with_retries, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """The run's id; None until the thread has opened it, or if it could not."""
        return self._run.id if self._run else None

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one value to each metric at an optimizer step, unless it has one there. Returns at once."""
        now = round(time.time() * 1000)
        self._enqueue([MetricPoint(name, value, now, step) for name, value in metrics.items()])

    def log_text(self, path: str, content: str) -> None:
        """Write or replace an artifact, such as `samples/epoch_1.md`. Returns at once."""
        self._enqueue((path, content))

    def close(self, status: Status, timeout: float | None = None) -> str | None:
        """Send what is left and set the run's status, within `timeout` seconds. Returns the run's id, if it has one.

        Default timeout: for a server 5 % of the time since the run was opened, from 1 to 10 seconds.
        """
        if timeout is None:
            timeout = min(max((time.monotonic() - self._opened) / 20, 1.0), MAX_END_SECONDS)
            if self._uri.startswith("sqlite"):
                timeout = MAX_END_SECONDS  # a database on this disk answers, but to create one takes seconds
        if status == "KILLED":
            timeout = min(timeout, MAX_STOP_SECONDS)
        self._status = status
        self._enqueue(None)
        self._closed.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._warn_once(f"not done within {timeout:g} s")
        return self.run_id

    def _enqueue(self, item: list[MetricPoint] | _Text | None) -> None:
        with suppress(queue.Full):
            self._queue.put_nowait(item)

    def _send_with_retries(self) -> None:
        wait = FIRST_RETRY
        while True:
            try:
                self._send_until_closed()
                return
            except UserError as error:  # another try would end the same
                self._warn_once(str(error))
                return
            except Exception as error:
                self._warn_once(error_summary(error))
            if self._closed.wait(wait):
                return
            wait = min(2 * wait, MAX_RETRY)

    def _send_until_closed(self) -> None:
        """Open the run and send until the training has ended. Raises what MLflow raises; `_unsent` keeps the rest."""
        run = self._open(run_id=self.run_id or self._known_id)
        if run is None:
            info(f"MLflow at {self._address}: the same training logs there from elsewhere; publish compares the two")
            return
        self._run = run
        if run.is_finished:  # publish compares this training with it
            return
        self._start(run)
        while self._status is None or not self._queue.empty():
            self._collect()
            points = [point for item in self._unsent if isinstance(item, list) for point in item]
            if run.contradicts(points):  # the training's state was lost, and it takes another course this time
                self._run = run = run.supersede()
                self._start(run)
            run.log_metrics(points)
            for item in self._unsent:
                if isinstance(item, tuple):
                    run.log_text(*item)
            self._unsent = []
        self._monitor.finish()
        if self._status:
            run.end(self._status)

    def _start(self, run: MlflowRun) -> None:
        if not run.has_params:  # else they are set, perhaps by the same training on another machine
            run.log_params_and_tags(self._params, self._tags)
        run.start()
        if self._monitor:
            self._monitor.finish()  # of the run before, or of before a failure
        self._monitor = run.monitor_system()
        if self._has_warned and not self._closed.is_set():
            self._has_warned = False
            info(f"MLflow at {self._address}: connected again")

    def _collect(self) -> None:
        """Take from the queue for SEND_EVERY seconds after the first item, or until the training has ended."""
        due = time.monotonic() if self._unsent else None  # what a failure left unsent has waited enough
        while len(self._unsent) < MAX_QUEUED and (self._status is None or not self._queue.empty()):
            try:
                item = self._queue.get(timeout=None if due is None else max(due - time.monotonic(), 0))
            except queue.Empty:
                return
            if item is not None:
                self._unsent.append(item)
            due = due or time.monotonic() + SEND_EVERY

    @property
    def _address(self) -> str:
        return shown_address(self._uri)

    def _warn_once(self, problem: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warn(
                f"MLflow at {self._address}: {problem}; "
                "training is not touched by this, and publish sends what is missing"
            )
