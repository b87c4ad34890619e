"""How much memory this process has had at most."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")
M_ARENA_MAX = -8  # glibc's number for it


def peak_rss_bytes(status: Path = STATUS) -> int:
    """The largest resident size of this process so far, in bytes, interpreter included.

    Linux counts it as VmHWM; elsewhere `getrusage` tells it, in bytes on macOS and KiB on other systems.
    """
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # no /proc here
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes(status: Path = STATUS) -> int:
    """The resident size of this process now, in bytes; the largest so far where the system tells no other."""
    try:
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return peak_rss_bytes(status)


def give_back_freed() -> None:
    """Collect what nobody refers to, and give what was freed back to the system as far as it can be."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
    if trim is not None:
        trim(0)


def share_one_heap() -> None:
    """Have threads that begin from now on allocate from one heap, where the C library would give each its
    own: what threads that have ended left there would be of no use to others.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, 1)
