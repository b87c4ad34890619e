"""The table of `under_limits.py`, as Markdown."""

from __future__ import annotations

from typing import Any

from peers import between

HEAD = (
    *("limit", "program", "routes", "decode tok/s", "forecast", "of bound", "hits", "a token reads"),
    *("disk gave", "prefill tok/s", "forecast", "of bound", "disk gave", "peak of group", "VmHWM"),
    *("disk before",),
)


def markdown(report: dict[str, Any]) -> str:
    from apportion.bench.kernel_table import aligned

    rows = [cells(row, report["file_bytes"]) for row in report["rows"]]
    at = report["provenance"]
    resident = ", ".join(f"{name} {between(rate)} tok/s" for name, rate in report["resident_tok_s"].items())
    notes = "".join(f"\n- {note}" for note in report["notes"])
    origin = f"{at['processor']}, commit {at['commit']}, {at['date']}, load average {at['load_average']:.1f}"
    return f"""{aligned([list(HEAD), *rows])}

{report["model"]}, {report["file_bytes"] / 1e9:.2f} GB: prompts of {report["prompt"]}, answers of \
{report["decode"]} tokens, {report["threads"]} threads. Medians of {report["rounds"]} rounds, and from the \
smallest to the largest. All weights in memory: {resident or "not run"}. Errors of forecasts \
and shares of the bound: for the disk as measured before the run; for what it gave in the run, GB/s. {origin}.
{notes}"""


def cells(row: dict[str, Any], file_bytes: int) -> list[str]:
    decode, prefill = row["phases"]["decode"], row["phases"]["prefill"]
    peak = row["group_peak_bytes"]
    return [
        f"{row['limit'] / 1e9:.2f} GB ({row['limit'] / file_bytes:.0%})",
        row["program"],
        row["routes"] or "own",
        speed(decode, row["outcomes"]),
        forecast(decode),
        of_bound(decode),
        hits(decode, row["plan_hit_rate"]),
        reads(decode),
        given(decode),
        speed(prefill, row["outcomes"]),
        forecast(prefill),
        of_bound(prefill),
        given(prefill),
        "-" if peak is None else f"{peak / 1e9:.2f} GB",
        memory(row["peak_rss_bytes"], row["plan_nbytes"]),
        "-" if row["disk_GBps"] is None else between(row["disk_GBps"]),
    ]


def speed(phase: dict[str, Any], outcomes: list[str]) -> str:
    """Tokens a second; of what did not end, how it ended and what it reached at most."""
    bad = [outcome for outcome in outcomes if outcome != "done"]
    if phase["tok_s"] is not None:
        return between2(phase["tok_s"])
    if phase["at_most"] is None or not phase["at_most"]["max"]:
        return bad[0] if bad else "-"
    return f"{bad[0] if bad else 'unfinished'}, below {phase['at_most']['max']:.2f}"


def between2(rates: dict[str, float]) -> str:
    """As `between`, slow rates with two digits."""
    if rates["median"] >= 10:
        return between(rates)
    return f"{rates['median']:.2f} ({rates['min']:.2f} to {rates['max']:.2f})"


def forecast(phase: dict[str, Any]) -> str:
    if phase["forecast_tok_s"] is None:
        return "-"
    told = f"{phase['forecast_tok_s']['median']:.1f} ({phase['forecast_error']['median']:+.0%}"
    error = phase["given_disk_error"]
    return told + (")" if error is None else f"; {error['median']:+.0%})")


def of_bound(phase: dict[str, Any]) -> str:
    bounds = [phase["bound_tok_s"], phase["given_disk_bound_tok_s"]]
    if phase["tok_s"] is None or None in bounds:
        return "-"
    return "; ".join(f"{phase['tok_s']['median'] / bound['median']:.0%}" for bound in bounds)


def given(phase: dict[str, Any]) -> str:
    """GB/s, while anything was read."""
    rate = phase["reading_GBps"]
    return "-" if rate is None else f"{rate['median']:.2f} ({rate['min']:.2f} to {rate['max']:.2f})"


def hits(phase: dict[str, Any], forecast: float | None) -> str:
    if phase["hit_rate"] is None or forecast is None:
        return "-"
    return f"{phase['hit_rate']['median']:.1%} ({forecast:.1%})"


def memory(peak: int, plan: int | None) -> str:
    """The peak, and by how much the plan said more."""
    return f"{peak / 1e9:.2f} GB" + ("" if plan is None else f" ({plan / peak - 1:+.1%})")


def reads(phase: dict[str, Any]) -> str:
    nbytes = phase["disk_bytes_per_token"]
    return "-" if nbytes is None else f"{nbytes['median'] / 1e6:.1f} MB"
