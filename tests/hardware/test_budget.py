from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.core.errors import UsageError
from apportion.core.units import GiB, MiB
from apportion.hardware.budget import parse_budget
from apportion.hardware.memory import MemoryLimits

MACHINE = MemoryLimits(total=16 * GiB, available=12 * GiB, container=None, container_free=None)
CONTAINER = MemoryLimits(total=16 * GiB, available=12 * GiB, container=4 * GiB, container_free=3 * GiB)
UNKNOWN = MemoryLimits(total=0, available=0, container=None, container_free=None)


@pytest.mark.parametrize(
    ("text", "limits", "nbytes"),
    [
        ("4GiB", MACHINE, 4 * GiB),
        ("512 MB", UNKNOWN, 512_000_000),
        ("50%", MACHINE, 8 * GiB),
        (" 12.5 % ", CONTAINER, GiB // 2),
        ("100%", CONTAINER, 4 * GiB),
        ("auto", MACHINE, 12 * GiB - 12 * GiB // 16),
        ("Auto", CONTAINER, 3 * GiB - 3 * GiB // 16),
    ],
)
def test_budgets_are_sizes_shares_or_what_is_free(text: str, limits: MemoryLimits, nbytes: int) -> None:
    assert parse_budget(text, limits) == nbytes


def test_auto_leaves_a_margin_also_where_little_is_free() -> None:
    little = MemoryLimits(16 * GiB, 200 * MiB, None, None)
    assert parse_budget("auto", little) == 72 * MiB
    assert parse_budget("auto", MemoryLimits(16 * GiB, MiB, None, None)) == 0


@pytest.mark.parametrize(
    "text", ["", "much", "0%", "101%", "-5%", "-1GiB", "5%%", "4 GiB 3", "1e3%", "x" * 99]
)
def test_what_is_no_budget_is_refused_with_what_would_be(text: str) -> None:
    with pytest.raises(UsageError, match=r"not a budget.*4GiB, a share such as 50%, or auto"):
        parse_budget(text, MACHINE)


def test_more_than_there_is_is_refused_unless_it_is_for_another_machine() -> None:
    with pytest.raises(UsageError, match="the machine has 16 GiB"):
        parse_budget("17GiB", MACHINE)
    with pytest.raises(UsageError, match="the container has 4 GiB"):
        parse_budget("5GiB", CONTAINER)
    assert parse_budget("64GiB", CONTAINER, bounded=False) == 64 * GiB
    assert parse_budget("64GiB", UNKNOWN) == 64 * GiB


@pytest.mark.parametrize("text", ["auto", "50%"])
def test_what_depends_on_the_machine_needs_a_machine_that_tells(text: str) -> None:
    with pytest.raises(UsageError, match="does not tell"):
        parse_budget(text, UNKNOWN)


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_budget(text, CONTAINER) >= 0
