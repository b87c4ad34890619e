"""Reading needs the arena's memory and no more, by the system's own account."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.control_group import limit_file

from apportion.core.units import MiB

FILE_NBYTES = 128 * MiB
ARENA_NBYTES = 16 * MiB
SLACK_NBYTES = 4 * MiB  # Python's own: tickets, threads' stacks

# Reads the whole file through a few slots; prints by how much the peak of the process grew.
WORK = f"""
import sys
from apportion.core.claim import Kind, Tier
from apportion.core.resident import peak_rss_bytes
from apportion.core.units import MiB
from apportion.memory import Arena, Ledger, Part, Reader

def pass_over(reader, arena, file):
    flying = []
    for offset in range(0, {FILE_NBYTES}, 2 * MiB):
        slot = arena.take()
        if slot is None:
            ticket, slot = flying.pop(0)
            reader.wait(ticket)
        flying.append((reader.submit(arena, slot, [Part(file, offset, 2 * MiB)]), slot))
    for ticket, _ in flying:
        reader.wait(ticket)

import numpy
before = peak_rss_bytes()
ledger = Ledger({{Tier.RAM: {ARENA_NBYTES}}})
with Reader(direct=sys.argv[2] == "direct") as reader:
    with Arena(ledger, Kind.EXPERT_SLOTS, 2 * MiB, {ARENA_NBYTES} // (2 * MiB)) as arena:
        pass_over(reader, arena, reader.open(sys.argv[1]))
print(peak_rss_bytes() - before, ledger.account().tiers[Tier.RAM].peak)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("budget") / "weights.bin"
    block = os.urandom(MiB)
    with path.open("wb") as stream:
        for _ in range(FILE_NBYTES // MiB):
            stream.write(block)
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def run(path: Path, how: str, group: Path | None = None) -> list[int]:
    """What WORK prints, run inside a control group if one is given."""
    enter = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n" if group else ""
    command = [sys.executable, "-c", enter + WORK, str(path), how]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert outcome.returncode == 0, outcome.stderr or "killed"
    return [int(word) for word in outcome.stdout.split()]


@pytest.mark.parametrize("how", ["direct", "buffered"])
def test_a_file_many_times_the_size_of_the_arena_adds_the_arena_and_nothing_else(
    path: Path, how: str
) -> None:
    grown, leased = run(path, how)
    assert leased == ARENA_NBYTES
    assert ARENA_NBYTES * 0.9 < grown < ARENA_NBYTES + SLACK_NBYTES


def peak_file(group: Path) -> Path:
    new = group / "memory.peak"
    return new if new.exists() else group / "memory.max_usage_in_bytes"


@pytest.mark.parametrize("how", ["direct", "buffered"])
def test_a_container_that_has_room_for_the_arena_only_is_enough(path: Path, group: Path, how: str) -> None:
    limit = ARENA_NBYTES + 64 * MiB  # the interpreter with NumPy, and its files
    limit_file(group).write_text(str(limit))
    run(path, how, group)
    if peak_file(group).exists():
        assert int(peak_file(group).read_text()) <= limit < FILE_NBYTES
