"""The MLflow run of a training while it trains: points and samples, sent from the background."""

import queue
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from tinystories.addresses import shown_address
from tinystories.console import warn
from tinystories.record import Point
from tinystories.tracking import Run, Status, reason

LONGEST_STOP = 5.0  # seconds that whoever stops a training waits for MLflow
SEND_EVERY = 2.0  # seconds: many points in one call, for a call costs tens of milliseconds

LONGEST_END = 10.0  # seconds that the end of a training may be held up

_Text = tuple[str, str]  # an artifact's path and content


class LiveRun:
    """A run that is streamed to from a background thread: training never waits for MLflow, nor stops because of it.

    The first failure is said in one line, and then the stream is over; `publish` completes the run later.
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
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> None:
        """Open the run of `run_id`, else that of `key`, else a new one called `name`; without waiting for it.

        `root`: the user's repository. `params` and `tags`: see `record.flat_params` and `record.environment_tags`.
        """
        self._uri = uri
        # A call in vain is tried three times; ten seconds each, so that a dead server is found out soon.
        self._open = partial(
            Run, uri=uri, experiment=experiment, root=root, key=key, run_id=run_id, name=name, call_timeout=10
        )
        self._params, self._tags = dict(params), dict(tags)
        self._run: Run | None = None
        self._over = False
        self._opened = time.monotonic()
        self._queue: queue.SimpleQueue[list[Point] | _Text | Status] = queue.SimpleQueue()
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
        self._put([Point(name, value, now, step) for name, value in metrics.items()])

    def text(self, path: str, content: str) -> None:
        """Write or replace an artifact, such as `samples/epoch_1.md`. Returns at once."""
        self._put((path, content))

    def close(self, status: Status, timeout: float | None = None) -> str | None:
        """Send what is left and set the run's status, within `timeout` seconds. Returns the run's id, if it has one.

        Without a `timeout`, a server may take a twentieth of the time since the run was opened; a second in any case.
        """
        if timeout is None:
            timeout = min(max((time.monotonic() - self._opened) / 20, 1.0), LONGEST_END)
            if self._uri.startswith("sqlite"):
                timeout = LONGEST_END  # a database on this disk answers; but a new one takes seconds to be made
        if status == "KILLED":
            timeout = min(timeout, LONGEST_STOP)
        self._put(status)
        self._thread.join(timeout)
        if self._thread.is_alive():
            self._give_up(f"not done within {timeout:g} s")
        return self.run_id

    def _put(self, item: list[Point] | _Text | Status) -> None:
        if not self._over:
            self._queue.put(item)

    def _work(self) -> None:
        try:
            self._run = self._open()
            self._run.describe(self._params, self._tags)
            self._run.start()
            self._stream(self._run)
        except Exception as error:
            self._give_up(reason(error))

    def _stream(self, run: Run) -> None:
        while True:
            items = [self._queue.get()]
            due = time.monotonic() + SEND_EVERY
            while not isinstance(items[-1], str) and (left := due - time.monotonic()) > 0:
                with suppress(queue.Empty):
                    items.append(self._queue.get(timeout=left))
            run.log(point for item in items if isinstance(item, list) for point in item)
            for item in items:
                if isinstance(item, tuple):
                    run.text(*item)
                elif isinstance(item, str):
                    run.end(item)
                    return

    def _give_up(self, reason: str) -> None:
        if not self._over:
            self._over = True
            where = shown_address(self._uri)
            warn(f"MLflow at {where}: {reason}; training is not touched by this, and publish sends what is missing")
