"""Limits out of made-up systems: both versions, nested, unlimited, cut off and damaged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from apportion.core.units import GiB, MiB
from apportion.hardware.control_groups import limited_groups

NO_LIMIT_V1 = 9223372036854771712
MOUNT_V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
MOUNT_V1 = "34 30 0:29 {root} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
OTHER = (
    "22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
    "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
)


def system(root: Path, mountinfo: str, cgroup: str, groups: Mapping[str, Mapping[str, object]]) -> Path:
    """A folder that looks like a system: `groups` are files by folder below sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text(OTHER + mountinfo)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, files in groups.items():
        folder = root / "sys/fs/cgroup" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(f"{content}\n")
    return root


def v2(limit: object, used: int = 0, cached: int = 0) -> dict[str, object]:
    stat = f"anon 1\nfile {cached + 5}\ninactive_file {cached}\nactive_file 5"
    return {"memory.max": limit, "memory.current": used, "memory.stat": stat}


def v1(limit: int, used: int = 0, cached: int = 0) -> dict[str, object]:
    stat = f"cache 77\ninactive_file 3\ntotal_inactive_file {cached}"
    return {"memory.limit_in_bytes": limit, "memory.usage_in_bytes": used, "memory.stat": stat}


def limits(root: Path) -> list[int]:
    return [group.limit for group in limited_groups(root)]


def test_the_second_version_counts_cached_files_as_free(tmp_path: Path) -> None:
    groups = {"": {}, "box": v2(4 * GiB, used=3 * GiB, cached=2 * GiB)}
    (group,) = limited_groups(system(tmp_path, MOUNT_V2, "0::/box\n", groups))
    assert (group.limit, group.used, group.reclaimable, group.free) == (4 * GiB, 3 * GiB, 2 * GiB, 3 * GiB)


def test_the_first_version_counts_cached_files_of_all_groups_inside(tmp_path: Path) -> None:
    cgroup = "5:cpu:/other\n4:memory:/box\n0::/\n"
    groups = {"memory/box": v1(GiB, used=900 * MiB, cached=100 * MiB), "memory": v1(NO_LIMIT_V1)}
    (group,) = limited_groups(system(tmp_path, MOUNT_V1.format(root="/"), cgroup, groups))
    assert (group.limit, group.free) == (GiB, GiB - 800 * MiB)


def test_groups_around_the_own_one_bind_too(tmp_path: Path) -> None:
    groups = {
        "a/b/c": v2("max"),
        "a/b": v2(3 * GiB),
        "a": v2(2 * GiB, used=GiB),
        "beside": v2(MiB),
    }
    assert limits(system(tmp_path, MOUNT_V2, "0::/a/b/c\n", groups)) == [3 * GiB, 2 * GiB]


@pytest.mark.parametrize("word", ["max", NO_LIMIT_V1, 2**63 - 1, "", "many", "-1"])
def test_what_is_no_limit_or_no_number_binds_nobody(tmp_path: Path, word: object) -> None:
    assert limits(system(tmp_path, MOUNT_V2, "0::/box\n", {"box": v2(word)})) == []


def test_a_container_that_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    root = system(tmp_path, MOUNT_V2, "0::/\n", {"": v2(GiB)})
    assert limits(root) == [GiB]


@pytest.mark.parametrize("path", ["/docker/f00", "/docker/f00/inner", "/elsewhere", "/../.."])
def test_a_mount_that_shows_one_branch_only(tmp_path: Path, path: str) -> None:
    mount = MOUNT_V1.format(root="/docker/f00")
    groups = {"memory": v1(GiB), "memory/inner": v1(2 * GiB)}
    wanted = [2 * GiB, GiB] if path.endswith("inner") else [GiB]
    assert limits(system(tmp_path, mount, f"4:memory:{path}\n", groups)) == wanted


def test_both_versions_at_once_as_hybrid_systems_have_them(tmp_path: Path) -> None:
    mountinfo = MOUNT_V1.format(root="/") + MOUNT_V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    groups = {"memory/box": v1(GiB), "unified/user": {}}
    assert limits(system(tmp_path, mountinfo, "4:memory:/box\n0::/user\n", groups)) == [GiB]


def test_controllers_that_share_a_mount(tmp_path: Path) -> None:
    mountinfo = MOUNT_V1.format(root="/").replace("rw,memory", "rw,cpu,memory")
    root = system(tmp_path, mountinfo, "4:cpu,memory:/box\n", {"memory/box": v1(GiB)})
    assert limits(root) == [GiB]


def test_names_with_spaces_are_written_as_numbers(tmp_path: Path) -> None:
    mountinfo = MOUNT_V2.replace("/sys/fs/cgroup", r"/sys/fs/cgroup/my\040groups")
    assert limits(system(tmp_path, mountinfo, "0::/\n", {"my groups": v2(GiB)})) == [GiB]


def test_a_group_without_counters_is_taken_as_empty(tmp_path: Path) -> None:
    (group,) = limited_groups(system(tmp_path, MOUNT_V2, "0::/box\n", {"box": {"memory.max": GiB}}))
    assert group.free == GiB


def test_a_group_that_is_over_its_limit_has_nothing_free(tmp_path: Path) -> None:
    groups = {"box": v2(GiB, used=2 * GiB)}
    (group,) = limited_groups(system(tmp_path, MOUNT_V2, "0::/box\n", groups))
    assert group.free == 0


@pytest.mark.parametrize("cgroup", ["", "garbage\n", "4:cpu:/box\n", "::\n"])
@pytest.mark.parametrize("mountinfo", ["", "garbage\n", MOUNT_V1.format(root="/"), "1 2 3 - cgroup2\n"])
def test_damaged_or_missing_files_mean_no_limit(tmp_path: Path, mountinfo: str, cgroup: str) -> None:
    assert limits(system(tmp_path, mountinfo, cgroup, {})) == []


def test_no_proc_means_no_limit(tmp_path: Path) -> None:
    assert limits(tmp_path) == []


def test_this_system_can_be_read() -> None:
    assert all(group.limit > 0 for group in limited_groups())
