"""Say what is slow or missing here for running models inside a budget, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._failures import printable
from apportion.cli._options import json_option
from apportion.cli._output import print_object
from apportion.cli._tables import console, table

if TYPE_CHECKING:
    from apportion.hardware.finding import Finding


@click.command()
@click.argument("model", metavar="[MODEL]", required=False)
@click.option("--verbose", is_flag=True, help="Show also what changes nothing for us.")
@json_option
def command(model: str | None, verbose: bool, as_json: bool) -> int:
    """Say what is slow or missing here for running models inside a budget, and what to do.

    Looks at the limits and settings of the machine and its container, at the profile that `apportion probe`
    keeps, and at MODEL, which has to be on this machine, if one is named. Changes nothing. Each finding is
    ok, a note, a warning (slower or riskier than it could be) or a problem (the model cannot run); the exit
    status is 0 unless there is a problem.
    """
    from apportion.bench.examine import examine
    from apportion.hardware.checks import findings
    from apportion.hardware.finding import Level

    facts = examine(model)
    found = [finding for finding in findings(facts) if verbose or not finding.is_detail]
    worst = found[0].level
    if as_json:
        print_object(
            {
                "model": facts.model.name if facts.model is not None else None,
                "level": str(worst),
                "findings": [finding.to_dict() for finding in found],
            }
        )
    else:
        print_findings(found)
    return 1 if worst == Level.PROBLEM else 0


def print_findings(found: Sequence[Finding]) -> None:
    out = console()
    rows = [(str(finding.level), finding.about, words(finding)) for finding in found]
    out.print(table(("", "about", "finding"), rows))
    counts: dict[Any, int] = {}
    for finding in found:
        counts[finding.level] = counts.get(finding.level, 0) + 1
    out.print(", ".join(f"{count} {level}" for level, count in counts.items()) + ".")


def words(finding: Finding) -> str:
    """The finding on a line for each of its parts."""
    parts = [finding.what, finding.why, finding.advice and f"-> {finding.advice}"]
    return printable("\n".join(part for part in parts if part))
