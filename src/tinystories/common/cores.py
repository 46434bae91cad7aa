"""The number of processor cores that this process may use: a container or a job scheduler often allows fewer."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath


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
