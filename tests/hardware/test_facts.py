"""Facts out of made-up systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from apportion.core.units import GiB, KiB, MiB
from apportion.hardware.control_groups import cpu_quota
from apportion.hardware.facts import system_facts

FILES = {
    "proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 2048 kB\nSwapFree: 512 kB\n",
    "proc/sys/vm/swappiness": "60\n",
    "proc/sys/kernel/osrelease": "5.15.0-91-generic\n",
    "proc/sys/kernel/io_uring_disabled": "2\n",
    "proc/self/status": "Name:\tpython\nSeccomp:\t2\nCpus_allowed_list:\t0-2,5\n",
    "proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max data size             unlimited            unlimited            bytes     \n"
        "Max address space         1073741824           unlimited            bytes     \n"
    ),
    "sys/devices/system/cpu/online": "0-7\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_driver": "acpi-cpufreq\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
}


def system(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_everything_that_the_system_tells_is_read(tmp_path: Path) -> None:
    facts = system_facts(system(tmp_path, FILES))
    assert (facts.memory.total, facts.memory.free, facts.groups) == (8 * GiB, 4 * GiB, ())
    assert (facts.swap_nbytes, facts.swap_used, facts.swappiness) == (2 * MiB, 1536 * KiB, 60)
    assert (facts.kernel, facts.ring_setting, facts.filtered) == ("5.15.0-91-generic", 2, True)
    assert (facts.address_space, facts.data) == (GiB, None)
    assert (facts.processors, facts.allowed, facts.quota) == (8, 4, None)
    assert (facts.governor, facts.frequency_driver) == ("powersave", "acpi-cpufreq")
    assert facts.huge_pages == "never"


def test_a_system_that_tells_nothing_leaves_all_open(tmp_path: Path) -> None:
    facts = system_facts(tmp_path)
    assert (facts.kernel, facts.huge_pages, facts.governor) == ("", "", "")
    assert facts.swappiness is facts.ring_setting is facts.quota is facts.address_space is None
    assert (facts.swap_nbytes, facts.processors, facts.filtered) == (0, 0, False)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_harm_nobody(tmp_path: Path, name: str) -> None:
    system_facts(system(tmp_path, {**FILES, name: "\x00\ufffd: , -- 1-\n[\n"}))


V2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpuacct,cpu\n"


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/a/b\n", "a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/mountinfo": V2, "proc/self/cgroup": "0::/a/b\n", "a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/mountinfo": V2,
                "proc/self/cgroup": "0::/a/b\n",
                "a/b/cpu.max": "400000 100000\n",
                "a/cpu.max": "200000 100000\n",
            },
            2.0,
        ),
        (
            {
                "proc/self/mountinfo": V1,
                "proc/self/cgroup": "3:cpuacct,cpu:/box\n",
                "cpu/box/cpu.cfs_quota_us": "50000\n",
                "cpu/box/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                "proc/self/mountinfo": V1,
                "proc/self/cgroup": "3:cpuacct,cpu:/box\n",
                "cpu/box/cpu.cfs_quota_us": "-1\n",
                "cpu/box/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_tightest_quota_of_processors_counts(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    placed = {
        name if name.startswith("proc") else f"sys/fs/cgroup/{name}": text for name, text in files.items()
    }
    assert cpu_quota(system(tmp_path, placed)) == quota
