"""The MLflow run of a training while it trains: points and samples, sent from the background."""

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from tinystories.common.console import info, warn
from tinystories.common.errors import UserError
from tinystories.common.urls import shown_address
from tinystories.tracking.mlflow_run import Run, Status, open_live, reason
from tinystories.tracking.record import MetricPoint

MAX_STOP_SECONDS = 5.0  # seconds that whoever stops a training waits for MLflow
SEND_EVERY = 2.0  # seconds: many points in one call, for a call costs tens of milliseconds
FIRST_RETRY, MAX_RETRY = 5.0, 60.0  # seconds until a store that failed is tried again; doubled each time
MAX_QUEUED = 10_000  # rows and texts that wait for a store; what comes on top of them is left to publish

MAX_END_SECONDS = 10.0  # seconds that the end of a training may be held up

_Text = tuple[str, str]  # an artifact's path and content


class AsyncRunLogger:
    """A run that is streamed to from a background thread: training never waits for MLflow, nor stops because of it.

    Where MLflow fails, that is said in one line, and it is tried again from time to time until the training ends; what
    has not reached it by then is sent by `publish`.
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
        """Open the run of `run_id`, else that of `key`, else a new one called `name`; without waiting for it.

        `root`: the user's repository. `params` and `tags`: see `record.flat_params` and `record.environment_tags`.
        """
        self._uri = uri
        self._open = partial(open_live, uri=uri, experiment=experiment, root=root, key=key, params=params, name=name)
        self._known_id = run_id
        self._params, self._tags = dict(params), dict(tags)
        self._run: Run | None = None
        self._status: Status | None = None  # how the training ended, once it has
        self._opened = time.monotonic()
        self._is_told = False  # that something is wrong
        self._queue: queue.Queue[list[MetricPoint] | _Text | None] = queue.Queue(MAX_QUEUED)
        self._unsent: list[list[MetricPoint] | _Text] = []
        self._closed = threading.Event()
        # A daemon: a call that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    @property
    def run_id(self) -> str | None:
        """The run's id; None until the thread has opened it, or if it could not."""
        return self._run.id if self._run else None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one value to each metric at an optimizer step, unless it has one there. Returns at once."""
        now = round(time.time() * 1000)
        self._put([MetricPoint(name, value, now, step) for name, value in metrics.items()])

    def text(self, path: str, content: str) -> None:
        """Write or replace an artifact, such as `samples/epoch_1.md`. Returns at once."""
        self._put((path, content))

    def close(self, status: Status, timeout: float | None = None) -> str | None:
        """Send what is left and set the run's status, within `timeout` seconds. Returns the run's id, if it has one.

        Without a `timeout`, a server may take a twentieth of the time since the run was opened; a second in any case.
        """
        if timeout is None:
            timeout = min(max((time.monotonic() - self._opened) / 20, 1.0), MAX_END_SECONDS)
            if self._uri.startswith("sqlite"):
                timeout = MAX_END_SECONDS  # a database on this disk answers; but a new one takes seconds to be made
        if status == "KILLED":
            timeout = min(timeout, MAX_STOP_SECONDS)
        self._status = status
        self._put(None)
        self._closed.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._tell(f"not done within {timeout:g} s")
        return self.run_id

    def _put(self, item: list[MetricPoint] | _Text | None) -> None:
        with suppress(queue.Full):
            self._queue.put_nowait(item)

    def _work(self) -> None:
        wait = FIRST_RETRY
        while True:
            try:
                self._stream()
                return
            except UserError as error:  # it would be the same again
                self._tell(str(error))
                return
            except Exception as error:
                self._tell(reason(error))
            if self._closed.wait(wait):
                return
            wait = min(2 * wait, MAX_RETRY)

    def _stream(self) -> None:
        """Send what comes until the training has ended. Raises what MLflow raises; what is not sent then is kept."""
        run = self._open(run_id=self.run_id or self._known_id)
        if run is None:
            info(f"MLflow at {self._where}: the same training streams there from elsewhere; publish compares the two")
            return
        self._run = run
        if run.is_finished:  # publish compares with it what this training gives
            return
        self._begin(run)
        while self._status is None or not self._queue.empty():
            self._gather()
            points = [point for item in self._unsent if isinstance(item, list) for point in item]
            if run.contradicts(points):  # a training whose state was lost, and which goes another way this time
                self._run = run = run.supersede()
                self._begin(run)
            run.log(points)
            for item in self._unsent:
                if isinstance(item, tuple):
                    run.text(*item)
            self._unsent = []
        if self._status:
            run.end(self._status)

    def _begin(self, run: Run) -> None:
        if not run.is_described:  # else it says already what it is of, perhaps of another machine's training
            run.describe(self._params, self._tags)
        run.start()
        if self._is_told and not self._closed.is_set():
            self._is_told = False
            info(f"MLflow at {self._where}: connected again")

    def _gather(self) -> None:
        """Take from the queue what comes within SEND_EVERY seconds after the first, or until the training has ended."""
        due = time.monotonic() if self._unsent else None  # what a failure left behind has waited enough
        while len(self._unsent) < MAX_QUEUED and (self._status is None or not self._queue.empty()):
            try:
                item = self._queue.get(timeout=None if due is None else max(due - time.monotonic(), 0))
            except queue.Empty:
                return
            if item is not None:
                self._unsent.append(item)
            due = due or time.monotonic() + SEND_EVERY

    @property
    def _where(self) -> str:
        return shown_address(self._uri)

    def _tell(self, reason: str) -> None:
        if not self._is_told:
            self._is_told = True
            rest = "training is not touched by this, and publish sends what is missing"
            warn(f"MLflow at {self._where}: {reason}; {rest}")
