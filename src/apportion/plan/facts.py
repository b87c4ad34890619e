"""A plan with what surrounds it, for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apportion.plan.plan import Plan
from apportion.plan.planner import Planner

if TYPE_CHECKING:
    from apportion.core.errors import DoesNotFit


def facts_of(plan: Plan, planner: Planner, error: DoesNotFit | None = None) -> dict[str, Any]:
    """The plan ready for JSON; where the budget is too small, with the error and the smallest that is not."""
    on_disk = round(planner.units.nbytes * (1 - plan.resident_fraction))
    return {
        "fits": error is None,
        "smallest_budget": planner.smallest_budget,
        "resident_budget": planner.resident_budget,
        **({} if error is None else {"error": error.to_dict()}),
        **plan.to_dict(),
        "tiers": {"ram": plan.total_nbytes, "disk": on_disk},
    }
