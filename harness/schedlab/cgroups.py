# SPDX-License-Identifier: GPL-2.0-only
"""The same work on this host's Linux: busy processes under one CPU quota, v1 or v2.

Real time, on whatever else the host does: a neighbour to compare with, no measurement of ours.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
# Throttled in fewer of its periods than this, a group was short of CPU time, not at its quota.
LIMITED = 0.95


@dataclass(frozen=True)
class Quota:
    """Where groups can be made; ``version`` 1 or 2."""

    root: Path
    version: int

    def limit(self, group: Path, cap_percent: int) -> None:
        """Let the group have so much of one CPU."""
        quota = cap_percent * PERIOD_US // 100
        if self.version == 1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")


@dataclass(frozen=True)
class Measured:
    """A run: each window's share (percent of a CPU), and each process's CPU time in ns."""

    processes: int
    cap_percent: int
    windows: tuple[float, ...]
    used_ns: tuple[int, ...]
    throttled: float  # in which part of its periods

    @property
    def limited(self) -> bool:
        """Whether the quota was what limited it; not so where the host is too busy."""
        return self.throttled >= LIMITED

    @property
    def share(self) -> float:
        """Of all windows; they are of one length."""
        return sum(self.windows) / len(self.windows)


def find(root: Path = ROOT) -> Quota | str:
    """Where a quota can be set, or why nowhere."""
    for path, version in ((root / "cpu", 1), (root / "cpu,cpuacct", 1), (root, 2)):
        controllers = path / "cgroup.controllers"
        if version == 1 and not (path / "cpu.shares").exists():
            continue
        if version == 2:
            if not controllers.exists() or "cpu" not in controllers.read_text().split():
                continue
            if "cpu" not in (path / "cgroup.subtree_control").read_text().split():
                return f"the cpu controller is not enabled for children in {path}"
        if not os.access(path, os.W_OK):
            return f"no leave to make a group in {path} (not root?)"
        return Quota(path, version)
    return f"no cpu controller of cgroups, v1 or v2, below {root}"


@contextmanager
def _group(quota: Quota, cap_percent: int) -> Iterator[Path]:
    group = quota.root / f"nemesis-{os.getpid()}"
    group.mkdir()
    try:
        quota.limit(group, cap_percent)
        yield group
    finally:
        # Its last process may take a moment to go.
        for _ in range(100):
            try:
                group.rmdir()
                break
            except OSError:
                time.sleep(0.02)
        else:
            group.rmdir()


@contextmanager
def _spinners(group: Path, count: int) -> Iterator[list[int]]:
    pids: list[int] = []
    try:
        for _ in range(count):
            pid = os.fork()
            if pid == 0:
                try:
                    (group / "cgroup.procs").write_text(str(os.getpid()))
                    while True:
                        pass
                finally:
                    os._exit(1)
            pids.append(pid)
        yield pids
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)


def cpu_ns(pid: int) -> int:
    """A process's CPU time; ProcessLookupError or OSError when it is gone."""
    # clock_getcpuclockid(3), which Python has not: the kernel's encoding of a process's clock.
    return time.clock_gettime_ns((~pid << 3) | 2)


def _periods(group: Path) -> tuple[int, int]:
    """(periods, those in which it was throttled) so far."""
    found = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(found["nr_periods"]), int(found["nr_throttled"])


def measure(
    quota: Quota, processes: int, cap_percent: int, windows: int = 10, window_s: float = 1.0
) -> Measured:
    """Busy processes under a quota.  OSError where it cannot be set, or one of them died."""
    with _group(quota, cap_percent) as group, _spinners(group, processes) as pids:
        time.sleep(0.5)
        shares = []
        periods = _periods(group)
        first = before = [cpu_ns(pid) for pid in pids]
        then = time.monotonic_ns()
        for _ in range(windows):
            time.sleep(window_s)
            now, after = time.monotonic_ns(), [cpu_ns(pid) for pid in pids]
            shares.append(100 * (sum(after) - sum(before)) / (now - then))
            before, then = after, now
        used = tuple(b - a for a, b in zip(first, before))
        passed, throttled = (b - a for a, b in zip(periods, _periods(group)))
    part = throttled / passed if passed else 0.0
    return Measured(processes, cap_percent, tuple(shares), used, part)
