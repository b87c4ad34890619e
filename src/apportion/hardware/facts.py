"""What checks look at: facts of the system, and of the model that shall run on it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from apportion.core.units import KiB
from apportion.hardware.control_groups import GroupMemory, cpu_quota, limited_groups
from apportion.hardware.memory import MemoryLimits, memory_limits
from apportion.hardware.profile import Profile
from apportion.hardware.storage import FileSystem

_CHOSEN = re.compile(r"\[(\w+)\]")


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What the system says of itself. What it does not tell is empty or None.

    Attributes:
        groups: control groups around us that limit memory, from the inside out.
        swappiness: how gladly the system swaps, 0 to 200.
        huge_pages: `always`, `madvise` or `never`.
        address_space, data: limits of this process in bytes; None: none.
        processors: that the machine has running.
        allowed: of these, that this process may use.
        quota: processors' worth of time that the container grants.
        governor, frequency_driver: of the first processor.
        ring_setting: of `kernel.io_uring_disabled`: 0 everybody may, 1 only a group, 2 nobody.
        filtered: whether a filter of system calls (seccomp) is in force for this process.
    """

    kernel: str
    memory: MemoryLimits
    groups: tuple[GroupMemory, ...]
    swap_nbytes: int
    swap_used: int
    swappiness: int | None
    huge_pages: str
    address_space: int | None
    data: int | None
    processors: int
    allowed: int
    quota: float | None
    governor: str
    frequency_driver: str
    ring_setting: int | None
    filtered: bool


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """A model that shall run here.

    Args:
        nbytes: of its weights in memory.
        smallest_budget: that it can run within.
        direct_refusal: how the system refuses to read its file past the page cache; empty: it does not.
        packed: whether its weights lie as they are used.
        has_experts: whether it is a mixture of experts.
        why_not: what keeps weights from coming and going, a line for each cause.
        kept_as: what is kept in memory in another format than stored, a line for each.
    """

    name: str
    file_system: FileSystem
    nbytes: int
    smallest_budget: int
    direct_refusal: str
    packed: bool
    has_experts: bool
    why_not: tuple[str, ...]
    kept_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that checks look at.

    Args:
        ring_refusal: how the kernel refuses io_uring; empty: it does not.
        isas: instruction sets that kernels can use here, the fastest first; `isa` is the one in use, chosen
            by `isa_place`: a variable or file; empty: by nobody.
        profile: of the device that models lie on; None: there is none, `profile_problem` says why.
        date: today, ISO 8601.
        model: None where none was named.
    """

    system: SystemFacts
    ring_refusal: str
    isas: tuple[str, ...]
    isa: str
    isa_place: str
    profile: Profile | None
    profile_problem: str
    date: str
    model: ModelFacts | None


def system_facts(root: Path = Path("/")) -> SystemFacts:
    """The system as it is now.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    proc, cpus = root / "proc", root / "sys/devices/system/cpu"
    memory = _fields(proc / "meminfo")
    status, limits = _fields(proc / "self/status"), _text(proc / "self/limits")
    swap = _number(memory.get("SwapTotal", "")) or 0
    allowed = _count(status.get("Cpus_allowed_list", ""))
    processors = _count(_text(cpus / "online")) or allowed
    huge_pages = _CHOSEN.search(_text(root / "sys/kernel/mm/transparent_hugepage/enabled"))
    return SystemFacts(
        kernel=_text(proc / "sys/kernel/osrelease"),
        memory=memory_limits(root),
        groups=limited_groups(root),
        swap_nbytes=swap * KiB,
        swap_used=max(0, swap - (_number(memory.get("SwapFree", "")) or 0)) * KiB,
        swappiness=_number(_text(proc / "sys/vm/swappiness")),
        huge_pages=huge_pages[1] if huge_pages is not None else "",
        address_space=_limit(limits, "Max address space"),
        data=_limit(limits, "Max data size"),
        processors=processors,
        allowed=min(allowed, processors) or processors,
        quota=cpu_quota(root),
        governor=_text(cpus / "cpu0/cpufreq/scaling_governor"),
        frequency_driver=_text(cpus / "cpu0/cpufreq/scaling_driver"),
        ring_setting=_number(_text(proc / "sys/kernel/io_uring_disabled")),
        filtered=status.get("Seccomp", "") == "2",
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _fields(path: Path) -> dict[str, str]:
    """`name: value` lines."""
    lines = (line.partition(":") for line in _text(path).splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _number(text: str) -> int | None:
    """The number that a text begins with."""
    word = text.split()[0] if text.split() else ""
    return int(word) if word.isdecimal() else None


def _count(ranges: str) -> int:
    """How many numbers a list such as `0-3,8` names."""
    total = 0
    for part in ranges.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            total += int(last or first) - int(first) + 1
    return total


def _limit(limits: str, name: str) -> int | None:
    """The soft limit of that name in `/proc/self/limits`."""
    for line in limits.splitlines():
        if line.startswith(name):
            return _number(line.removeprefix(name))
    return None
