from __future__ import annotations

from pathlib import Path

from apportion.core.units import GiB, KiB
from apportion.hardware.memory import MemoryLimits, memory_limits

from .test_control_groups import MOUNT_V2, system, v2


def machine(root: Path, total: int, available: int) -> Path:
    (root / "proc").mkdir(exist_ok=True)
    text = f"MemTotal: {total // KiB} kB\nMemFree: 1 kB\nMemAvailable: {available // KiB} kB\nHugePages: x\n"
    (root / "proc/meminfo").write_text(text)
    return root


def test_without_a_container_the_machine_is_the_limit(tmp_path: Path) -> None:
    limits = memory_limits(machine(tmp_path, 16 * GiB, 9 * GiB))
    assert limits == MemoryLimits(16 * GiB, 9 * GiB, None, None)
    assert (limits.limit, limits.free) == (16 * GiB, 9 * GiB)


def test_the_tightest_group_and_the_fullest_one_bind(tmp_path: Path) -> None:
    groups = {"a/b": v2(4 * GiB, used=GiB), "a": v2(6 * GiB, used=5 * GiB)}
    root = machine(system(tmp_path, MOUNT_V2, "0::/a/b\n", groups), 16 * GiB, 9 * GiB)
    limits = memory_limits(root)
    assert (limits.limit, limits.free) == (4 * GiB, GiB)


def test_a_container_that_may_have_more_than_there_is(tmp_path: Path) -> None:
    root = system(tmp_path, MOUNT_V2, "0::/box\n", {"box": v2(64 * GiB)})
    limits = memory_limits(machine(root, 16 * GiB, 9 * GiB))
    assert (limits.limit, limits.free) == (16 * GiB, 9 * GiB)


def test_without_proc_the_system_is_asked_otherwise(tmp_path: Path) -> None:
    limits = memory_limits(tmp_path)
    assert limits.total == limits.available > 0


def test_this_machine_has_memory() -> None:
    limits = memory_limits()
    assert 0 < limits.free <= limits.total
