"""Tokens a second over budget, drawn as an SVG that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, TypeAlias

WIDTH, HEIGHT = 760, 440
LEFT, RIGHT, TOP, BOTTOM = 64, 250, 48, 56  # margins; the legend stands on the right
INK, FAINT, PAPER = "#3b4252", "#d8dee6", "#ffffff"
COLOURS = ("#2f6fb7", "#d2691e", "#2e8b57", "#8e44ad", "#b03a2e", "#5d6d7e", "#b7950b", "#148f77")
FONT = "ui-sans-serif, system-ui, sans-serif"
BOUND = "bound of "

Points: TypeAlias = Sequence[tuple[float, float]]


def plot(report: Mapping[str, Any]) -> str:
    """Decode's speed of every program and its bound, over the limit in GB, on a scale of powers."""
    lines = curves(report)
    budgets = sorted({row["limit"] / 1e9 for row in report["rows"]})
    speeds = [speed for points in lines.values() for _, speed in points] or [1.0]
    across = Scale(budgets or [1.0], (LEFT, WIDTH - RIGHT))
    up = LogScale(speeds, (HEIGHT - BOTTOM, TOP))
    body = [*axes(across, up, budgets)]
    programs = list(dict.fromkeys(name.removeprefix(BOUND) for name in lines))
    for place, (name, points) in enumerate(lines.items()):
        colour = COLOURS[programs.index(name.removeprefix(BOUND)) % len(COLOURS)]
        body += curve(name, points, colour, place, across, up)
    title = f"{report['model']}, {report['file_bytes'] / 1e9:.1f} GB: decode under a limit of memory"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'font-family="{FONT}" font-size="13" fill="{INK}">'
    )
    paper = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>'
    head = [opening, f"<title>{escape(title)}</title>", paper, text(LEFT, 20, title, size=15)]
    return "\n".join([*head, *body, "</svg>\n"])


def curves(report: Mapping[str, Any]) -> dict[str, Points]:
    """By name, (limit in GB, tokens a second); what did not end has no point."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in report["rows"]:
        name = row["program"] + (f", {row['routes']}" if row["routes"] else "")
        decode = row["phases"]["decode"]
        for label, rates in ((name, decode["tok_s"]), (BOUND + name, decode["given_disk_bound_tok_s"])):
            if rates is not None:
                found.setdefault(label, []).append((row["limit"] / 1e9, rates["median"]))
    return {name: sorted(points) for name, points in found.items()}


class Scale:
    """From values to places, along a straight line."""

    def __init__(self, values: Sequence[float], places: tuple[float, float]) -> None:
        margin = 0.08 * (max(values) - min(values)) or 1.0
        self.low, self.high = min(values) - margin, max(values) + margin
        self.first, self.last = places

    def __call__(self, value: float) -> float:
        return self.first + (value - self.low) / (self.high - self.low) * (self.last - self.first)


class LogScale(Scale):
    """The same for logarithms, a half beyond both ends."""

    def __init__(self, values: Sequence[float], places: tuple[float, float]) -> None:
        self.low, self.high = math.log10(min(values) / 1.5), math.log10(max(values) * 1.5)
        self.first, self.last = places

    def __call__(self, value: float) -> float:
        return super().__call__(math.log10(value))

    def ticks(self) -> Iterator[float]:
        """1, 2, 5, 10, ... within the scale."""
        for power in range(math.floor(self.low), math.ceil(self.high) + 1):
            for digit in (1, 2, 5):
                value = digit * 10.0**power
                if self.low <= math.log10(value) <= self.high:
                    yield value


def axes(across: Scale, up: LogScale, budgets: Sequence[float]) -> Iterator[str]:
    for value in up.ticks():
        y = up(value)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>'
        yield text(LEFT - 8, y + 4, f"{value:g}", anchor="end")
    for value in budgets:
        yield text(across(value), HEIGHT - BOTTOM + 20, f"{value:.2f}", anchor="middle")
    yield f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="{INK}"/>'
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "limit, GB", anchor="middle")
    yield text(LEFT, TOP - 8, "tok/s", anchor="end")


def curve(name: str, points: Points, colour: str, place: int, across: Scale, up: Scale) -> Iterator[str]:
    """A line with its dots, dashed for a bound, and its place in the legend."""
    is_bound = name.startswith(BOUND)
    dashes = ' stroke-dasharray="5 4"' if is_bound else ""
    way = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
    yield f'<polyline points="{way}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    for x, y in () if is_bound else points:
        yield f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="4" fill="{colour}"/>'
    x, y = WIDTH - RIGHT + 14, TOP + 22 * place
    yield f'<path d="M{x} {y}h20" stroke="{colour}" stroke-width="2"{dashes}/>'
    yield text(x + 27, y + 4, name)


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int | None = None) -> str:
    extra = f' font-size="{size}"' if size else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(words)}</text>'
