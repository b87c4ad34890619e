from __future__ import annotations

import pytest

from apportion.core.units import MiB
from apportion.plan.crowd import READ_AHEAD_NBYTES, num_leaving, read_slots


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


@pytest.mark.parametrize(
    ("needed", "hits", "expected"),
    [
        (48, 40, 0),  # all have room
        (50, 45, 2),  # five are missing: what three of the slots hold is not needed
        (50, 48, 2),
        (64, 48, 16),
        (64, 30, 0),  # enough slots hold what is not needed
        (64, 36, 4),
    ],
)
def test_no_more_makes_way_than_is_missing_or_is_read_at_once(needed: int, hits: int, expected: int) -> None:
    assert num_leaving(48, 16, needed, hits) == expected
