"""The processor cores that this process may use, and how its threads share them with other processes."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

# How often an OpenMP thread looks for work before it sleeps: some 20 microseconds. GNU's default is 300,000, several
# milliseconds. On cores shared with other processes, that time is taken from the threads that are waited for.
SPIN_COUNT = 1000
_SPIN_VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def limit_spinning() -> None:
    """Let the OpenMP threads of this process and its children wait asleep. What the user has set wins.

    Call it before torch is imported, whose OpenMP runtime reads the variable once. Measurements: benchmarks/sharing.py.
    """
    if not any(name in os.environ for name in _SPIN_VARIABLES):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def usable_cores(root: Path = Path("/")) -> int:
    """Return the number of cores of the process's affinity, or of its cgroups' CPU quota (rounded up) where lower.

    At least 1. `root`: where `proc` and `sys` lie. A system without them, such as macOS, has no quota.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *map(math.ceil, _quotas(root))])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quota in cores of each cgroup that the process is in and that has one: versions 1 and 2, parents too.

    A container may see its own cgroup as the root of the file system, but its path by the name that the host gives it:
    directories that do not exist are passed over.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return
    mounts = root / "sys/fs/cgroup"
    for line in lines:  # `0::/path`, and in version 1 `4:cpu,cpuacct:/path`
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if (number, controllers) == ("0", ""):
            tops, read = (mounts, mounts / "unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            tops, read = (mounts / "cpu", mounts / controllers), _quota_v1
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        for directory in {top / part for top in tops for part in (own, *own.parents)}:
            with suppress(OSError, ValueError, ZeroDivisionError):  # no such cgroup; `max` or -1: no quota
                if (quota := read(directory)) > 0:
                    yield quota


def _quota_v2(directory: Path) -> float:
    quota, period = (directory / "cpu.max").read_text(encoding="ascii").split()
    return int(quota) / int(period)


def _quota_v1(directory: Path) -> float:
    quota = int((directory / "cpu.cfs_quota_us").read_text(encoding="ascii"))
    return quota / int((directory / "cpu.cfs_period_us").read_text(encoding="ascii"))
