from __future__ import annotations

import pytest

from apportion.core.units import MiB
from apportion.plan.crowd import READ_AHEAD_NBYTES, read_slots


@pytest.mark.parametrize(
    ("num_slots", "busy", "expected"),
    [
        (48, 8, 16),  # twice what keeps a disk busy
        (24, 8, 12),  # half of the slots
        (10, 8, 8),  # what keeps it busy, though more than half
        (6, 8, 6),
        (6, 1, 2),
        (2, 1, 2),
    ],
)
def test_slots_to_read_into_keep_the_disk_busy_and_leave_half(
    num_slots: int, busy: int, expected: int
) -> None:
    assert read_slots(num_slots, READ_AHEAD_NBYTES // busy) == expected


def test_small_experts_leave_no_slot_to_hold() -> None:
    assert read_slots(64, MiB // 64) == 64
