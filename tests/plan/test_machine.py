from __future__ import annotations

from dataclasses import replace

import pytest

from apportion.core.units import GiB, KiB, MiB
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import DiskProfile, DiskRate, ProductRates, Profile, Range
from apportion.hardware.storage import FileSystem
from apportion.plan.machine import ASSUMED_DISK, DiskRates, Product, Way, machine

SYSTEM = FileSystem("259:2", "/data", "ext4", "/dev/nvme0n1p2", 70 * GiB, False, 131072)
DISK = DiskProfile(
    SYSTEM,
    "ring",
    True,
    4 * GiB,
    (
        DiskRate(4 * KiB, 1, False, Range(0.01, 0.01, 0.01)),
        DiskRate(4 * KiB, 4, False, Range(0.04, 0.04, 0.04)),
        DiskRate(4 * MiB, 1, False, Range(1.0, 0.5, 1.2)),
        DiskRate(4 * MiB, 4, False, Range(2.0, 1.5, 2.4)),
        DiskRate(4 * MiB, 4, True, Range(1.5, 1.2, 1.8)),
    ),
    (),
)
PROFILE = Profile(
    "A processor",
    ("avx2",),
    4,
    MemoryLimits(32 * GiB, 30 * GiB, None, None),
    {1: 10.0, 4: 30.0},
    {"int8": 400.0, "bf16": 200.0, "f32": 100.0},
    {"q4_0": ProductRates(24.0, 300.0)},
    DISK,
    "2026-01-02T03:04Z",
)


def test_rates_are_those_of_the_profile_at_its_threads() -> None:
    found = machine(PROFILE, 4)
    assert (found.memory, found.int8, found.f32) == (30e9, 400e9, 100e9)
    assert "2026-01-02T03:04Z" in found.basis


def test_fewer_threads_have_less_and_more_have_no_more() -> None:
    assert machine(PROFILE, 1).memory == 10e9
    assert machine(PROFILE, 1).int8 == 100e9
    assert machine(PROFILE, 2).memory == pytest.approx(20e9)  # half way, by doublings
    assert machine(PROFILE, 16) == machine(PROFILE, 4)


def test_products_are_as_fast_as_was_measured_by_format() -> None:
    assert machine(PROFILE, 4).products == {"q4_0": Product(24e9, 300e9)}
    assert machine(PROFILE, 1).products == {"q4_0": Product(8e9, 75e9)}  # as memory and processors do
    assert machine(None, 2).products == {}


def test_a_read_is_as_fast_as_its_size_and_depth_allow() -> None:
    disk = machine(PROFILE, 4).disk
    assert disk.rate(4 * MiB, 4, beside=False) == pytest.approx(2e9)
    assert disk.rate(4 * MiB, 1, beside=False) == pytest.approx(1e9)
    assert disk.rate(4 * MiB, 2, beside=False) == pytest.approx(1.5e9)
    assert disk.rate(16 * MiB, 64, beside=False) == pytest.approx(2e9)
    assert disk.rate(KiB, 1, beside=False) == pytest.approx(0.01e9)
    assert disk.rate(128 * KiB, 1, beside=False) == pytest.approx(0.505e9)  # half way, by doublings


def test_beside_computing_every_read_is_slower_alike() -> None:
    disk = machine(PROFILE, 4).disk
    assert disk.rate(4 * MiB, 4, beside=True) == pytest.approx(1.5e9)
    assert disk.rate(4 * KiB, 4, beside=True) == pytest.approx(0.03e9)
    assert (disk.low, disk.high) == (pytest.approx(0.8), pytest.approx(1.2))


def test_ways_that_were_measured_beside_computing_are_taken_as_they_are() -> None:
    disk = DiskRates((Way(MiB, 4, 1e9), Way(4 * MiB, 4, 2e9)), (Way(MiB, 4, 0.9e9), Way(4 * MiB, 4, 1e9)))
    assert disk.rate(MiB, 4, beside=True) == pytest.approx(0.9e9)
    assert disk.rate(2 * MiB, 4, beside=True) == pytest.approx(0.95e9)
    assert disk.rate(4 * KiB, 1, beside=True) == pytest.approx(0.9e9)
    assert disk.best_beside == 1e9


def test_seconds_are_those_of_all_reads_together() -> None:
    disk = DiskRates((Way(MiB, 1, 1e9), Way(MiB, 8, 2e9)))
    assert disk.seconds(1e6, 1, beside=False) == pytest.approx(1e-3)
    assert disk.seconds(1e6, 8, beside=False) == pytest.approx(4e-3)
    assert disk.seconds(1e6, 0, beside=False) == 0
    assert disk.drifted(0.5).seconds(1e6, 1, beside=False) == pytest.approx(2e-3)


def test_long_reads_are_so_many_chunks_at_once() -> None:
    disk = DiskRates((Way(MiB, 1, 1e9), Way(MiB, 8, 2e9), Way(16 * MiB, 1, 4e9)))
    assert disk.seconds(16 * MiB, 1, beside=False) == pytest.approx(16 * MiB / 2e9)


def test_a_read_is_slower_only_as_long_as_threads_compute() -> None:
    disk = DiskRates((Way(MiB, 1, 2e9),), (Way(MiB, 1, 1e9),))
    assert disk.seconds_while(0.0, 1e6, 1) == pytest.approx(0.5e-3)
    assert disk.seconds_while(0.4e-3, 1e6, 1) == pytest.approx(0.4e-3 + 0.6 * 0.5e-3)
    assert disk.seconds_while(5.0, 1e6, 1) == pytest.approx(1e-3)


def test_a_stated_disk_rate_stands_in_for_the_measured() -> None:
    disk = machine(PROFILE, 4, 3e9).disk
    assert disk.rate(4 * KiB, 1, beside=True) == 3e9
    assert (disk.low, disk.high) == (1, 1)


def test_without_a_profile_rates_are_assumed_and_said_to_be() -> None:
    found = machine(None, 2)
    assert "nothing was measured" in found.basis
    assert found.disk.best == ASSUMED_DISK
    assert machine(None, 64).memory == machine(None, 2).memory
    assert machine(None, 64).int8 > found.int8


def test_a_profile_without_a_disk_assumes_one() -> None:
    found = machine(replace(PROFILE, disk=None), 4)
    assert found.memory == 30e9
    assert "assumed" in found.basis
