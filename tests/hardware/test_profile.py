from __future__ import annotations

import json
from dataclasses import replace

import pytest

from apportion.core.errors import BadFile, NotFound
from apportion.core.units import GiB, MiB
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import (
    DiskProfile,
    DiskRate,
    ProductRates,
    Profile,
    Range,
    load_profile,
    profile_path,
    save_profile,
)
from apportion.hardware.storage import FileSystem

SYSTEM = FileSystem("259:2", "/data", "ext4", "/dev/nvme0n1p2", 70 * GiB, False, 131072)
RATES = (
    DiskRate(MiB, 1, False, Range(1.4, 1.1, 1.5)),
    DiskRate(4 * MiB, 8, False, Range(2.1, 1.9, 2.2)),
    DiskRate(MiB, 8, True, Range(1.2, 0.9, 1.3)),
)
PROFILE = Profile(
    processor="A processor",
    isas=("avx2", "portable"),
    threads=2,
    memory=MemoryLimits(16 * GiB, 9 * GiB, 8 * GiB, 7 * GiB),
    memory_GBps={1: 20.5, 2: 40.25},
    peak_GOps={"int8": 600.0, "f32": 190.0},
    products={"q4_0": ProductRates(30.5, 450.0)},
    disk=DiskProfile(SYSTEM, "ring", True, 4 * GiB, RATES, ("a note",)),
    date="2026-11-21T17:00Z",
)


@pytest.mark.parametrize("profile", [PROFILE, replace(PROFILE, disk=None)])
def test_what_is_saved_is_loaded_for_its_device(profile: Profile) -> None:
    device = profile.disk.file_system.device if profile.disk else None
    path = save_profile(profile)
    assert path == profile_path(device)
    assert load_profile(device) == profile
    save_profile(replace(profile, processor="Another"))
    assert load_profile(device).processor == "Another"
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_profiles_of_several_devices_stand_side_by_side() -> None:
    save_profile(PROFILE)
    save_profile(replace(PROFILE, disk=None))
    assert load_profile("259:2").disk is not None
    assert load_profile(None).disk is None


def test_a_machine_that_was_not_measured_has_none() -> None:
    with pytest.raises(NotFound, match="apportion probe"):
        load_profile("1:1")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("memory"),
        lambda told: told.update(version=99),
        lambda told: told.update(memory_GBps=7),
        lambda told: told["disk"].update(unknown=1),
        lambda told: told["disk"]["rates"].append({"block_nbytes": 1}),
    ],
)
def test_a_damaged_profile_is_refused(change) -> None:
    path = save_profile(PROFILE)
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))
    with pytest.raises(BadFile, match="apportion probe"):
        load_profile("259:2")


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_what_is_no_profile_at_all_is_refused(text: str) -> None:
    path = save_profile(PROFILE)
    path.write_text(text)
    with pytest.raises(BadFile):
        load_profile("259:2")


def test_the_best_rate_is_that_of_the_median_with_or_without_computing() -> None:
    disk = PROFILE.disk
    assert disk is not None
    assert disk.best(beside=False) == RATES[1]
    assert disk.best(beside=True) == RATES[2]
    assert replace(disk, rates=()).best(beside=True) is None
