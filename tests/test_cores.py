"""What this process may use of the processor: affinity, the cgroup's quota, and what others leave of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.runtime import cores
from tasks.runtime.cores import Limits, Load, LoadMeter, Quota, read_limits, read_quota


def cgroups(root: Path, groups: str, mounts: str, files: dict[str, str]) -> Path:
    """A root with proc/self/cgroup, proc/self/mountinfo, and files of cgroups."""
    for path, text in {"proc/self/cgroup": groups, "proc/self/mountinfo": mounts, **files}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(os.fsencode(text))
    return root


V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def test_a_quota_of_cgroup_v2_is_found_above_the_group(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/app/cpu.max": "150000 100000\n", "sys/fs/cgroup/app/job/cpu.max": "max 100000\n"}
    quota = read_quota(cgroups(tmp_path, "0::/app/job\n", V2, files))
    assert quota == Quota(1.5, tmp_path / "sys/fs/cgroup/app")


def test_the_tightest_of_several_quotas_counts(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/app/cpu.max": "400000 100000\n", "sys/fs/cgroup/app/job/cpu.max": "50000 100000\n"}
    quota = read_quota(cgroups(tmp_path, "0::/app/job\n", V2, files))
    assert quota is not None
    assert quota.cores == 0.5


@pytest.mark.parametrize("controllers", ["cpu", "cpu,cpuacct"])
def test_a_quota_of_cgroup_v1_is_found_also_where_a_container_mounts_its_own_group(
    controllers: str, tmp_path: Path
) -> None:
    mounts = f"9 8 0:30 /docker/3f /sys/fs/cgroup/cpu rw - cgroup cgroup rw,{controllers}\n"
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    quota = read_quota(cgroups(tmp_path, f"4:memory:/x\n3:{controllers}:/docker/3f\n0::/\n", mounts, files))
    assert quota is not None
    assert quota.cores == 2.0


@pytest.mark.parametrize("text", ["max 100000\n", "", "x y\n"])
def test_no_quota_is_none(text: str, tmp_path: Path) -> None:
    assert read_quota(cgroups(tmp_path, "0::/\n", V2, {"sys/fs/cgroup/cpu.max": text})) is None
    assert read_quota(tmp_path / "nothing here") is None


def test_a_quota_is_found_beside_mounts_whose_names_are_not_utf8_and_where_its_own_has_a_space(tmp_path: Path) -> None:
    mounts = (
        "31 24 0:27 / /mnt/caf\udce9 rw - ext4 /dev/sdb1 rw\nno mount\n30 24 0:26 / /sys/fs/c\\040g rw - cgroup2 c rw\n"
    )
    root = cgroups(tmp_path, "0::/caf\udce9\n", mounts, {"sys/fs/c g/caf\udce9/cpu.max": "50000 100000\n"})
    assert read_quota(root) == Quota(0.5, root / "sys/fs/c g/caf\udce9")


def test_two_threads_of_one_core_count_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    siblings = {0: "0-1", 1: "0-1", 2: "2-3"}
    files = {
        f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{error}\n" for n, error in siblings.items()
    }
    limits = read_limits(cgroups(tmp_path, "0::/\n", V2, files))
    assert (limits.physical, limits.logical) == (2, {0, 1, 2})


def test_process_pools_follow_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    for quota, expected in ((None, 8), (Quota(2.5, Path()), 3), (Quota(0.5, Path()), 1), (Quota(64, Path()), 8)):
        monkeypatch.setattr(cores, "read_limits", lambda quota=quota: Limits(4, frozenset(range(8)), quota))
        assert cores.cores() == expected


def test_the_load_is_what_others_used_between_two_readings(monkeypatch: pytest.MonkeyPatch) -> None:
    now, used = [0.0], {"all": 0.0, "us": 0.0, "group": 0.0}
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(cores, "_cpu_seconds_of_machine", lambda _: used["all"])
    monkeypatch.setattr(cores, "_cpu_seconds_of_process", lambda: used["us"])
    monkeypatch.setattr(cores, "_cpu_seconds_of_group", lambda _: used["group"])
    meter = LoadMeter(Limits(8, frozenset(range(8)), Quota(4.0, Path())))
    now[0], used["all"], used["us"], used["group"] = 10.0, 45.0, 20.0, 35.0
    load = meter.read()
    assert load == Load(machine=2.5, group=1.5)
    assert meter.limits.free_cores(load) == 2.5  # of the quota, which is less than the machine's 5.5
    now[0], used["us"] = 20.0, 30.0  # clocks of different grain: never below nothing
    assert meter.read() == Load(0.0, 0.0)


def test_our_own_children_are_no_load_also_when_they_have_ended() -> None:
    before = cores._cpu_seconds_of_process()
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        process = psutil.Process(child.pid)
        while process.cpu_times().user < 0.3:
            time.sleep(0.02)
        while_it_runs = cores._cpu_seconds_of_process()
    finally:
        child.kill()
        child.wait()
    assert while_it_runs - before >= 0.3
    assert cores._cpu_seconds_of_process() >= while_it_runs
