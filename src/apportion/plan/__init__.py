"""Plans: how a budget is divided for a model, and how fast that will be, before anything is loaded."""

from apportion.plan.file import plan_from_dict, read_plan, write_plan
from apportion.plan.plan import Estimate, Forecast, Plan, PolicyNames

__all__ = [
    "Estimate",
    "Forecast",
    "Plan",
    "PolicyNames",
    "plan_from_dict",
    "read_plan",
    "write_plan",
]
