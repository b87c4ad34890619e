"""Servers whose experts come and go, however much memory the process happens to take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.serve.running import Running, config_for, running

from apportion.engine import budget
from apportion.plan import Plan

SLOTS = 3


@contextmanager
def streaming(folder: Path, **changes: Any) -> Iterator[Running]:
    """A server of a model of 8 experts in each layer, with slots for 3 of them, within 2 GiB."""
    make_plan = budget.make_plan

    def tight(*args: Any, **options: Any) -> Plan:
        plan = make_plan(*args, **options)
        return replace(plan, expert_slots=tuple(min(SLOTS, slots) for slots in plan.expert_slots))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "make_plan", tight)
        config = config_for(folder, "olmoe", **{"ram": "2GiB", **changes})
        with running(config) as server:
            yield server
