"""How much memory there is, and how much of it this process may have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from apportion.core.units import KiB
from apportion.hardware.control_groups import limited_groups


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Bytes of RAM.

    Args:
        total: of the machine; 0 where the system does not say.
        available: what programs could have now without swapping; `total` where the system does not say.
        container: the tightest limit of the control groups around us; None where there is none.
        container_free: what is left within all of them.
    """

    total: int
    available: int
    container: int | None
    container_free: int | None

    @property
    def limit(self) -> int:
        """What this process can have at most."""
        return self.total if self.container is None else min(self.container, self.total or self.container)

    @property
    def free(self) -> int:
        """What this process can have now."""
        return self.available if self.container_free is None else min(self.container_free, self.available)


def memory_limits(root: Path = Path("/")) -> MemoryLimits:
    """The limits as they are now.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    told = _meminfo(root / "proc/meminfo")
    total = told.get("MemTotal", 0) or _physical_nbytes()
    groups = limited_groups(root)
    return MemoryLimits(
        total=total,
        available=told.get("MemAvailable", total),
        container=min((group.limit for group in groups), default=None),
        container_free=min((group.free for group in groups), default=None),
    )


def _meminfo(path: Path) -> dict[str, int]:
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.replace(":", " ").split() for line in lines)
    return {field[0]: int(field[1]) * KiB for field in fields if len(field) >= 2 and field[1].isdecimal()}


def _physical_nbytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0
