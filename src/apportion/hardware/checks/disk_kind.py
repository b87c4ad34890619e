"""Whether the disk that the model lies on is one that experts can be read from in time."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

NETWORK = ("nfs", "cifs", "smb", "9p", "ceph", "fuse.sshfs", "glusterfs", "lustre", "afs")


def check(facts: Facts) -> Iterator[Finding]:
    if facts.model is None:
        return
    system = facts.model.file_system
    numbers = {"kind": system.kind, "source": system.source, "rotational": system.rotational}
    if system.kind.startswith(NETWORK):
        what, why = f"the model lies on {system.kind}", "every missing expert is read over a network"
        yield Finding(Level.WARNING, "disk", what, why, "copy it to a disk of this machine", numbers)
    elif system.rotational and not _is_virtual(system.source):
        what, why = "the model lies on a disk with a moving head", "reads at many places wait for it"
        yield Finding(Level.WARNING, "disk", what, why, "copy it to a solid-state disk", numbers)
    else:
        yield Finding(
            Level.OK, "disk", f"{system.kind or 'unknown'} on {system.source or 'a device'}", numbers=numbers
        )


def _is_virtual(source: str) -> bool:
    """Virtual machines call every disk rotational."""
    return source.startswith(("/dev/vd", "/dev/xvd"))
