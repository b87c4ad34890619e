"""Every check over made-up facts: what is well, and each way in which it is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apportion.core.units import GiB, MiB
from apportion.hardware.checks import CHECKS, findings
from apportion.hardware.control_groups import GroupMemory
from apportion.hardware.facts import Facts, ModelFacts, SystemFacts
from apportion.hardware.finding import Finding, Level
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import DiskProfile, DiskRate, Profile, Range
from apportion.hardware.storage import FileSystem

DISK = FileSystem("259:2", "/data", "ext4", "/dev/nvme0n1p2", 100 * GiB, False, 131072)
MEMORY = MemoryLimits(total=16 * GiB, available=8 * GiB, container=None, container_free=None)
SYSTEM = SystemFacts(
    kernel="6.8.0-45-generic",
    memory=MEMORY,
    groups=(),
    swap_nbytes=0,
    swap_used=0,
    swappiness=60,
    huge_pages="madvise",
    address_space=None,
    data=None,
    processors=8,
    allowed=8,
    quota=None,
    governor="performance",
    frequency_driver="acpi-cpufreq",
    ring_setting=0,
    filtered=False,
)
MODEL = ModelFacts(
    name="olmoe",
    file_system=DISK,
    nbytes=4 * GiB,
    smallest_budget=GiB,
    direct_refusal="",
    packed=False,
    has_experts=True,
    why_not=(),
    kept_as=(),
)


def rate(gbps: float, *, beside: bool) -> DiskRate:
    return DiskRate(MiB, 8, beside, Range(gbps, gbps, gbps))


def profile(alone: float = 2.0, beside: float = 1.9, **changes: Any) -> Profile:
    rates = (rate(alone, beside=False), rate(beside, beside=True))
    disk = DiskProfile(DISK, "ring", True, GiB, rates, ())
    known = Profile("some", ("avx2", "portable"), 8, MEMORY, {8: 20.0}, {}, {}, disk, "2026-03-01T10:00Z")
    return replace(known, **changes)


GOOD = Facts(
    system=SYSTEM,
    ring_refusal="",
    isas=("avx2", "portable"),
    isa="avx2",
    isa_place="",
    profile=profile(),
    profile_problem="",
    date="2026-03-20",
    model=MODEL,
)


def on_system(**changes: Any) -> Facts:
    return replace(GOOD, system=replace(SYSTEM, **changes))


def with_model(**changes: Any) -> Facts:
    return replace(GOOD, model=replace(MODEL, **changes))


def in_container(limit: int, free: int, depth: int = 1) -> Facts:
    memory = replace(MEMORY, container=limit, container_free=free)
    groups = tuple(GroupMemory(Path(f"/g/{i}"), limit + i * GiB, limit - free, 0) for i in range(depth))
    return on_system(memory=memory, groups=groups)


def lies_on(kind: str, **changes: Any) -> Facts:
    return with_model(file_system=replace(DISK, kind=kind, **changes))


# Check, facts, level, and a word of what is said.
BAD: list[tuple[str, Facts, Level, str]] = [
    (
        "profile",
        replace(GOOD, profile=None, profile_problem="no profile of this machine"),
        Level.WARNING,
        "apportion probe",
    ),
    ("profile", replace(GOOD, date="2026-08-01"), Level.NOTE, "153 days old"),
    ("profile", replace(GOOD, profile=profile(isas=("avx512",))), Level.WARNING, "another processor"),
    (
        "ring",
        replace(on_system(ring_setting=2), ring_refusal="EPERM"),
        Level.WARNING,
        "sysctl kernel.io_uring_disabled=0",
    ),
    ("ring", replace(on_system(ring_setting=1), ring_refusal="EPERM"), Level.WARNING, "group of users"),
    ("ring", replace(on_system(filtered=True), ring_refusal="EPERM"), Level.WARNING, "seccomp profile"),
    (
        "ring",
        replace(on_system(kernel="5.4.0-1"), ring_refusal="EINVAL"),
        Level.WARNING,
        "5.4.0-1 is built without",
    ),
    ("ring", replace(GOOD, ring_refusal="ENOSYS"), Level.WARNING, "newer kernel"),
    ("ring", replace(GOOD, ring_refusal="ENOMEM"), Level.WARNING, "ulimit -l"),
    ("ring", replace(GOOD, ring_refusal="EACCES"), Level.WARNING, "does not say why"),
    (
        "direct_reads",
        with_model(direct_refusal="EINVAL", file_system=replace(DISK, kind="overlay")),
        Level.WARNING,
        "volume",
    ),
    (
        "direct_reads",
        with_model(direct_refusal="EINVAL", file_system=replace(DISK, kind="tmpfs")),
        Level.WARNING,
        "takes memory already",
    ),
    ("direct_reads", with_model(direct_refusal="EINVAL"), Level.WARNING, "ext4 refuses"),
    ("disk_kind", lies_on("nfs4"), Level.WARNING, "over a network"),
    ("disk_kind", lies_on("ext4", rotational=True, source="/dev/sda1"), Level.WARNING, "moving head"),
    ("swap", on_system(swap_nbytes=2 * GiB), Level.NOTE, "swappiness 60"),
    ("swap", on_system(swap_nbytes=2 * GiB, swap_used=GiB), Level.WARNING, "1 GiB used"),
    ("huge_pages", on_system(huge_pages="never"), Level.WARNING, "echo madvise"),
    ("container_memory", in_container(4 * GiB, 3 * GiB), Level.NOTE, "at most 3 GiB"),
    ("container_memory", in_container(4 * GiB, 3 * GiB, depth=3), Level.NOTE, "3 groups"),
    ("free_memory", in_container(GiB // 2, GiB // 2), Level.PROBLEM, "smaller model"),
    ("free_memory", in_container(4 * GiB, GiB // 2), Level.WARNING, "end other programs"),
    ("free_memory", with_model(smallest_budget=20 * GiB, why_not=("x",)), Level.PROBLEM, "apportion pack"),
    ("process_limits", on_system(address_space=2 * GiB), Level.WARNING, "ulimit -v"),
    ("process_limits", on_system(data=512 * MiB), Level.PROBLEM, "ulimit -d"),
    ("processors", on_system(allowed=2), Level.NOTE, "2 of 8"),
    ("processors", on_system(quota=1.5), Level.WARNING, "--threads 1"),
    ("governor", on_system(governor="powersave"), Level.WARNING, "lowest frequency"),
    (
        "instruction_set",
        replace(GOOD, isa="portable", isa_place="APPORTION_ISA"),
        Level.WARNING,
        "APPORTION_ISA",
    ),
    ("disk_rate", replace(GOOD, profile=profile(2.0, 1.0)), Level.NOTE, "1.00 beside"),
    ("read_ahead", GOOD, Level.NOTE, "128 KiB"),
    ("packing", with_model(nbytes=9 * GiB), Level.WARNING, "several reads"),
    ("packing", with_model(nbytes=9 * GiB, has_experts=False), Level.WARNING, "rearranged"),
    ("streaming", with_model(why_not=("q5_1 is kept in memory as q8_0",)), Level.WARNING, "q5_1"),
    ("formats", with_model(kept_as=("q5_1 is kept as q8_0: 1.4 times",)), Level.NOTE, "1.4 times"),
]


def check(name: str, facts: Facts) -> list[Finding]:
    return list(CHECKS.get(name)(facts))


@pytest.mark.parametrize(("name", "facts", "level", "word"), BAD)
def test_what_is_not_well_is_found_and_explained(name: str, facts: Facts, level: Level, word: str) -> None:
    found = [finding for finding in check(name, facts) if finding.level != Level.OK]
    assert [finding.level for finding in found] == [level]
    assert word in " ".join((found[0].what, found[0].why, found[0].advice))
    assert found[0].why
    assert found[0].advice or found[0].is_detail
    json.dumps(found[0].to_dict())


@pytest.mark.parametrize("name", CHECKS)
def test_a_good_machine_is_well(name: str) -> None:
    for facts in (GOOD, replace(GOOD, model=None)):
        assert all(finding.level == Level.OK or finding.is_detail for finding in check(name, facts))


def test_every_check_is_tried_on_something_bad() -> None:
    assert {name for name, *_ in BAD} == set(CHECKS)


@pytest.mark.parametrize(
    "facts",
    [
        on_system(governor="powersave", frequency_driver="intel_pstate"),
        lies_on("ext4", rotational=True, source="/dev/vda"),
        in_container(32 * GiB, 8 * GiB),
        with_model(nbytes=9 * GiB, packed=True),
        on_system(address_space=64 * GiB),
        replace(GOOD, profile=profile(disk=None)),
    ],
)
def test_what_only_looks_bad_is_well(facts: Facts) -> None:
    assert all(finding.level == Level.OK or finding.is_detail for finding in findings(facts))


def test_the_worst_comes_first() -> None:
    levels = [finding.level for finding in findings(on_system(data=MiB, huge_pages="never"))]
    assert levels[:2] == [Level.PROBLEM, Level.WARNING]
    assert levels[-1] == Level.OK
