"""Plans: how a budget is divided for a model, and how fast that will be, before anything is loaded."""

from apportion.plan.facts import facts_of
from apportion.plan.file import plan_from_dict, read_plan, write_plan
from apportion.plan.hit_rate import HitRates
from apportion.plan.plan import Estimate, Forecast, Plan, PolicyNames
from apportion.plan.planner import Planner, make_plan

__all__ = [
    "Estimate",
    "Forecast",
    "HitRates",
    "Plan",
    "Planner",
    "PolicyNames",
    "facts_of",
    "make_plan",
    "plan_from_dict",
    "read_plan",
    "write_plan",
]
