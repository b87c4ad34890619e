"""Measured products as Markdown: a row for each format, a column for each model's layer or head.

It reads plain objects as `apportion bench-kernels --json` prints them, so that a committed result makes the
same table later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from apportion.bench.limits import PeakKind, peak_of

Result = Mapping[str, Any]

NOTHING = "-"

PEAKS: Mapping[str, Collection[PeakKind]] = {"int8": ["int8"], "int16": ["int16"], "floats": ["f32", "bf16"]}


def markdown(report: Mapping[str, Any]) -> str:
    """Both tables, below a line that says what they were measured on and above one for the spread."""
    results = report["results"]
    streamed = limit_of(results, "matvec")
    peaks = ", ".join(f"{name} {limit_of(results, 'matmat', peaks)}" for name, peaks in PEAKS.items())
    paragraphs = (
        origin(report),
        f"Matrix-vector, one token: GB/s of weights, share of the {streamed} GB/s that memory streams.",
        table(results, "matvec", ("layer", "head")),
        f"Matrix-matrix, {report['tokens']} tokens: GOP/s, share of the peak in registers ({peaks}).",
        table(results, "matmat", ("layer",)),
        widest(results),
    )
    return "\n\n".join(paragraphs)


def origin(report: Mapping[str, Any]) -> str:
    """Machine, commit, day, repetitions."""
    at = report["provenance"]
    commit = f", commit {at['commit']}" if at["commit"] else ""
    machine = f"{at['processor']}, {report['threads']} threads, {report['isa']}"
    when = f"version {at['version']}{commit}; {at['date']}, load average {at['load_average']:.1f}"
    return (
        f"{machine}; {when}. Medians of {report['repetitions']} repetitions, the limit measured beside each."
    )


def table(results: Sequence[Result], kind: str, parts: Sequence[str]) -> str:
    chosen = [one for one in results if one["kind"] == kind]
    models = list(dict.fromkeys(one["model"] for one in chosen))
    columns = [(model, part) for model in models for part in parts]
    head = ["format", *(f"{model} {part}" if len(parts) > 1 else model for model, part in columns)]
    rows = [
        [
            name,
            *(
                cell(one for one in chosen if (one["model"], one["part"], one["format"]) == (*c, name))
                for c in columns
            ),
        ]
        for name in dict.fromkeys(one["format"] for one in chosen)
    ]
    return aligned([head, *rows])


def cell(results: Iterable[Result]) -> str:
    """Products one after the other: their rate together, and the time that limits allow by the time taken."""
    found = list(results)
    if not found:
        return NOTHING
    amount = sum(one["amount"] for one in found)
    taken = sum(one["amount"] / one["rate"]["median"] for one in found)
    allowed = sum(one["amount"] / one["limit"]["median"] for one in found)
    rate = amount / taken
    return f"{rate:.{0 if rate >= 100 else 1}f} ({allowed / taken:.0%})"


def limit_of(results: Sequence[Result], kind: str, peaks: Collection[PeakKind] | None = None) -> str:
    """From the lowest to the highest limit that stood beside the results; of formats with these peaks."""
    limits = [
        one["limit"]["median"]
        for one in results
        if one["kind"] == kind and (peaks is None or peak_of(one["format"]) in peaks)
    ]
    if not limits:
        return NOTHING
    low, high = round(min(limits)), round(max(limits))
    return f"{low}" if low == high else f"{low} to {high}"


def widest(results: Sequence[Result]) -> str:
    """How far repetitions lay apart."""
    spreads = sorted(
        (one["rate"]["max"] - one["rate"]["min"]) / one["rate"]["median"]
        for one in results
        if one["rate"]["median"]
    )
    if not spreads:
        return ""
    middle = spreads[len(spreads) // 2]
    return (
        f"Spread, largest less smallest by the median: {middle:.0%} in the middle, {spreads[-1]:.0%} at most."
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table that reads well as text: the first column to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [rows[0], rule, *rows[1:]]
    return "\n".join(
        "| "
        + " | ".join(
            word.ljust(width) if column == 0 else word.rjust(width)
            for column, (word, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )
