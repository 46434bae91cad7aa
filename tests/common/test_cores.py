"""The number of usable cores, from the affinity and from cgroup files in a directory of the test."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tinystories.common.cores import usable_cores

V2, V1 = "0::/a/b\n", "12:memory:/x\n4:cpu,cpuacct:/a/b\n0::/\n"


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a directory with these cgroup files."""

    def make(membership: str, **files: str) -> Path:
        for name, text in {"proc/self/cgroup": membership, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return tmp_path

    return make


def v1(quota: str, directory: str = "sys/fs/cgroup/cpu/a/b") -> dict[str, str]:
    return {f"{directory}/cpu.cfs_quota_us": quota, f"{directory}/cpu.cfs_period_us": "100000\n"}


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        (V2, {}, 16),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 16),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"}, 4),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "120000 100000\n"}, 2),  # rounded up
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "10000 100000\n"}, 1),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "9900000 100000\n"}, 16),  # no more than there are
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),  # parent
        (V2, {"sys/fs/cgroup/cpu.max": "500000 100000\n"}, 5),  # a container's own cgroup is the root
        (V2, {"sys/fs/cgroup/unified/a/b/cpu.max": "600000 100000\n"}, 6),  # versions 1 and 2 side by side
        (V2, {"sys/fs/cgroup/c/cpu.max": "100000 100000\n"}, 16),  # another process's
        (V2, {"sys/fs/cgroup/a/b/cpu.max": ""}, 16),
        (V2, {"sys/fs/cgroup/a/b/cpu.max": "100000 0\n"}, 16),
        (V1, v1("200000\n"), 2),
        (V1, v1("-1\n"), 16),
        (V1, v1("200000\n", "sys/fs/cgroup/cpu,cpuacct"), 2),
        (V1, v1("200000\n", "sys/fs/cgroup/memory/x"), 16),
        ("rubbish\n\n", {}, 16),
    ],
)
def test_usable_cores_quota(root, membership, files, cores):
    assert usable_cores(root(membership, **files)) == cores


def test_usable_cores_affinity(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5})
    assert usable_cores(tmp_path) == 2  # nor is there a cgroup


def test_usable_cores_without_affinity(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores(tmp_path) == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


def test_usable_cores_here():
    assert 1 <= usable_cores() <= 16
