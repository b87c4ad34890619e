"""What the reader's tests have in common."""

from __future__ import annotations

import time
from collections.abc import Callable

from apportion.core.units import MiB
from apportion.memory import Arena, Part, Reader, Slot

SIZE = 3 * MiB + 1234  # of the file that is read; it ends inside a block
STUCK_S = 0.15
LONGER_S = 1.5

MakeReader = Callable[..., Reader]


def taken(arena: Arena) -> Slot:
    slot = arena.take()
    assert slot is not None
    return slot


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def wait_for_issue(reader: Reader) -> None:
    """Until what was submitted is on its way."""
    wait_until(lambda: reader.stats().num_in_flight > 0)


def read(reader: Reader, arena: Arena, *parts: Part) -> list[bytes]:
    """What lands in a slot for each of the parts."""
    slot = taken(arena)
    try:
        reader.wait(reader.submit(arena, slot, parts))
        view = arena.view(slot)
        return [view[part.first : part.first + part.nbytes].tobytes() for part in parts]
    finally:
        arena.release(slot)
