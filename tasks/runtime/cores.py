"""The CPU cores available to this process: its affinity, the cgroup's CPU quota (v1 and v2), and the load of other processes.

limits = read_limits()
meter = LoadMeter(limits)
...
limits.free_cores(meter.read())
"""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIN_WINDOW_SECONDS = 0.3
"""The system counts CPU time in hundredths of a second."""


@dataclass(frozen=True)
class Quota:
    """The lowest CPU quota of this process's cgroups."""

    cores: float
    folder: Path
    """The folder of its cgroup."""


@dataclass(frozen=True)
class Load:
    """Cores that processes other than this one and its children use."""

    machine: float
    """On the cores in this process's affinity; time stolen by a hypervisor counts as used."""
    group: float = 0.0
    """Within the cgroup with the quota."""


@dataclass(frozen=True)
class Limits:
    physical: int
    """Physical cores in this process's affinity."""
    logical: frozenset[int] | None
    """Ids of the logical cores; None if the system does not report them."""
    quota: Quota | None

    def free_cores(self, load: Load) -> float:
        """Cores that are left by the load, within the quota."""
        free = self.physical - load.machine
        return free if self.quota is None else min(free, self.quota.cores - load.group)


def read_limits(root: Path = Path("/")) -> Limits:
    """Reads affinity and quota.

    Args:
        root: where proc and sys are mounted; tests pass another folder.
    """
    logical = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Limits(_physical_cores(root, logical), logical, read_quota(root))


def cores() -> int:
    """How many worker processes are useful: the logical cores in the affinity, at most the quota, rounded up.

    The load of other processes is ignored: unlike threads, workers do not wait for each other; each takes the next job when idle.
    """
    limits = read_limits()
    count = os.cpu_count() or 1 if limits.logical is None else len(limits.logical)
    return count if limits.quota is None else max(1, min(count, math.ceil(limits.quota.cores)))


def _physical_cores(root: Path, logical: frozenset[int] | None) -> int:
    import psutil

    if logical is None:
        return psutil.cpu_count(logical=False) or os.cpu_count() or 1
    topology = root / "sys/devices/system/cpu"
    try:
        return len({(topology / f"cpu{n}/topology/thread_siblings_list").read_text().strip() for n in logical})
    except OSError:
        return max(1, min(psutil.cpu_count(logical=False) or len(logical), len(logical)))


def read_quota(root: Path = Path("/")) -> Quota | None:
    """The lowest quota of the process's cgroups and their ancestors; None if there is none."""
    quotas = []
    for top, folder in _cpu_groups(root):
        while True:
            value = _quota_of(folder)
            if value is not None:
                quotas.append(Quota(value, folder))
            if folder == top:
                break
            folder = folder.parent
    return min(quotas, key=lambda quota: quota.cores, default=None)


def _cpu_groups(root: Path) -> list[tuple[Path, Path]]:
    """(mount point, the process's group) of each hierarchy that may have CPU quotas."""
    try:
        groups = [line.split(":", 2) for line in _lines(root / "proc/self/cgroup")]
        lines = [line.split(" ") for line in _lines(root / "proc/self/mountinfo")]
        # a space in a field is written as \040
        mounts = [[re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), field) for field in line] for line in lines]
    except OSError:
        return []
    groups_of_mounts = []
    for fields in mounts:
        if "-" not in fields[5:-3]:
            continue
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        is_v1 = kind == "cgroup" and "cpu" in options
        if not (is_v1 or kind == "cgroup2"):
            continue
        for _, controllers, path in (group for group in groups if len(group) == 3):
            if ("cpu" in controllers.split(",")) if is_v1 else controllers == "":
                top = root / fields[4].lstrip("/")
                # in a container, the mount begins at the container's own group
                inside = os.path.relpath(path, fields[3])
                folder = top if inside.startswith("..") else (top / inside)
                groups_of_mounts.append((top, folder if folder.is_dir() else top))
    return groups_of_mounts


def _lines(file: Path) -> list[str]:
    """The lines of a file, which may not be UTF-8."""
    return file.read_text("utf-8", errors="surrogateescape").split("\n")


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if quota != "max" and float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cpu_seconds_of_group(folder: Path) -> float | None:
    """CPU seconds used by a cgroup; None if not available."""
    try:
        if (folder / "cpuacct.usage").is_file():
            return float((folder / "cpuacct.usage").read_text()) / 1e9
        lines = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
        return float(lines["usage_usec"]) / 1e6
    except (OSError, ValueError, KeyError):
        return None


@dataclass(frozen=True)
class _CpuSeconds:
    """CPU seconds used until `at`."""

    at: float
    machine: float
    own: float
    group: float | None


class LoadMeter:
    """Measures the CPU load of other processes between two readings."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._last = self._measure()

    def read(self) -> Load:
        """The load since the last reading, or since the meter was created; waits if that was less than MIN_WINDOW_SECONDS ago."""
        time.sleep(max(0.0, MIN_WINDOW_SECONDS - (time.monotonic() - self._last.at)))
        before, now = self._last, self._measure()
        self._last, seconds = now, now.at - before.at
        own = now.own - before.own
        in_group = 0.0 if now.group is None or before.group is None else now.group - before.group - own
        return Load(max(0.0, now.machine - before.machine - own) / seconds, max(0.0, in_group) / seconds)

    def _measure(self) -> _CpuSeconds:
        quota = self.limits.quota
        group = None if quota is None else _cpu_seconds_of_group(quota.folder)
        machine = _cpu_seconds_of_machine(self.limits.logical)
        return _CpuSeconds(time.monotonic(), machine, _cpu_seconds_of_process(), group)


def _cpu_seconds_of_machine(logical: frozenset[int] | None) -> float:
    import psutil

    try:
        times = psutil.cpu_times(percpu=True)
    except (OSError, RuntimeError, psutil.Error):  # a sandbox without /proc/stat
        return 0.0
    if logical is not None and max(logical) < len(times):
        times = [times[number] for number in sorted(logical)]
    return sum(map(_busy, times))


def _busy(times: Any) -> float:
    unused = ("idle", "iowait", "guest", "guest_nice")  # guests count as user, too
    return float(sum(times) - sum(getattr(times, name, 0.0) for name in unused))


def _cpu_seconds_of_process() -> float:
    """Of this process and its children, including children that have ended."""
    import psutil

    this = psutil.Process()
    total = 0.0
    for process in [this, *_children(this)]:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _children(process: Any) -> list[Any]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except (psutil.Error, OSError):
        return []
