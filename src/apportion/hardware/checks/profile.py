"""Whether the machine was measured, and is still the one that was."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from apportion.hardware.facts import Facts
from apportion.hardware.finding import Finding, Level

ADVICE = "run: apportion probe MODEL"
OLD_DAYS = 90


def check(facts: Facts) -> Iterator[Finding]:
    profile = facts.profile
    if profile is None:
        why = "forecasts and budgets of time reckon with assumed rates"
        yield Finding(Level.WARNING, "profile", facts.profile_problem, why, ADVICE)
        return
    days = (date.fromisoformat(facts.date) - date.fromisoformat(profile.date[:10])).days
    numbers = {"days": days, "threads": profile.threads}
    if profile.isas != facts.isas:
        what = "the profile is of another processor, or of another build"
        why = f"it has {', '.join(profile.isas)}; here are {', '.join(facts.isas)}"
        yield Finding(Level.WARNING, "profile", what, why, ADVICE, numbers)
    elif days > OLD_DAYS:
        what = f"the profile is {days} days old"
        yield Finding(Level.NOTE, "profile", what, "machines change, and so do hosts", ADVICE, numbers)
    else:
        yield Finding(Level.OK, "profile", f"measured on {profile.date[:10]}", numbers=numbers)
