"""What routes files say, for the verbs of `apportion trace`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apportion.cli._progress import PhaseBars
from apportion.cli._tables import console, table

if TYPE_CHECKING:
    from apportion.formats.routes import RoutesFile
    from apportion.policies.expert_cache import ExpertCache
    from apportion.simulate.replay import Ids, Replay

SHOWN = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the experts, at which a curve is shown


def header_of(routes: RoutesFile) -> dict[str, Any]:
    shape = routes.shape
    return {
        "model": shape.model,
        "tokens": routes.num_tokens,
        "layers": list(shape.layers),
        "num_experts": shape.num_experts,
        "top_k": shape.top_k,
    }


def facts_of(routes: RoutesFile, skip: int) -> dict[str, Any]:
    """What a file holds, ready for JSON."""
    from apportion.simulate.replay import lru_curve, repeat_rate

    shape, experts = routes.shape, routes.experts()
    return {
        **header_of(routes),
        "gates": shape.gates,
        "hidden": shape.hidden,
        "file_bytes": routes.path.stat().st_size,
        "cut_bytes": routes.num_cut_bytes,
        "repeated": repeat_rate(experts),
        "repeated_by_chance": shape.top_k / shape.num_experts,
        "skip": skip,
        "lru_curve": lru_curve(experts, shape.num_experts, skip),
    }


def curve_of(facts: dict[str, Any]) -> dict[str, Any]:
    """LRU's hit rates as a file that plans read."""
    curve = facts["lru_curve"]
    return {
        "source": f"routes of {facts['model'] or 'a model'}, {facts['tokens'] - facts['skip']} tokens",
        "fractions": [slots / facts["num_experts"] for slots in curve],
        "hit_rates": list(curve.values()),
    }


def usual_slots(shares: Sequence[float], num_experts: int, top_k: int) -> list[int]:
    """Slots for so many of the experts, where that is enough for a step."""
    return sorted({max(round(share * num_experts), top_k) for share in shares})


def replay_all(
    experts: Ids,
    num_experts: int,
    slots: Sequence[int],
    policies: dict[str, ExpertCache],
    skip: int,
    bars: PhaseBars,
) -> list[dict[str, Any]]:
    from apportion.simulate.replay import replay

    rows: list[dict[str, Any]] = []
    for name, policy in policies.items():
        for count in slots:
            found = replay(experts, num_experts, count, policy, skip)
            rows.append(row_of(name, policy, found, num_experts))
            bars("replay", len(rows), len(policies) * len(slots), name)
    return rows


def row_of(name: str, policy: ExpertCache, found: Replay, num_experts: int) -> dict[str, Any]:
    tokens_times_k = max(found.uses, 1)
    return {
        "policy": name,
        "parameters": policy.parameters(),
        "oracle": policy.oracle,
        "slots": found.slots,
        "share": found.slots / num_experts,
        "hit_rate": found.hit_rate,
        "hit_rate_by_layer": [hits / tokens_times_k for hits in found.hits],
    }


def print_facts(facts: dict[str, Any]) -> None:
    from apportion.core.units import format_bytes

    kept = ["experts", "gates"] if facts["gates"] else ["experts"]
    kept += [f"router inputs of {facts['hidden']}"] if facts["hidden"] else []
    rows = [
        ("tokens", f"{facts['tokens']:,}"),
        ("layers", len(facts["layers"])),
        ("experts", f"{facts['top_k']} of {facts['num_experts']} per token and layer"),
        ("recorded", f"{', '.join(kept)}; {format_bytes(facts['file_bytes'])}"),
        (
            "used again by the next token",
            f"{facts['repeated']:.1%} (by chance {facts['repeated_by_chance']:.1%})",
        ),
    ]
    if facts["cut_bytes"]:
        rows.append(("note", f"the last token was cut off: {facts['cut_bytes']} bytes of it are passed over"))
    console().print(table((facts["model"] or "unnamed", ""), rows))
    curve = facts["lru_curve"]
    shown = usual_slots(SHOWN, facts["num_experts"], facts["top_k"])
    points = [(count, f"{count / facts['num_experts']:.1%}", f"{curve[count]:.1%}") for count in shown]
    console().print(table(("slots per layer", "of its experts", "hits of LRU"), points, numbers=(0, 1, 2)))


def print_rows(facts: dict[str, Any], slots: Sequence[int]) -> None:
    rates = {(row["policy"], row["slots"]): f"{row['hit_rate']:.1%}" for row in facts["rows"]}
    names = dict.fromkeys(row["policy"] for row in facts["rows"])
    title = f"{facts['model'] or 'unnamed'}, {max(facts['tokens'] - facts['skip'], 0):,} tokens"
    titles = (title, *(f"{count} slots ({count / facts['num_experts']:.0%})" for count in slots))
    rows = [(name, *(rates[name, count] for count in slots)) for name in names]
    console().print(table(titles, rows, numbers=tuple(range(1, len(slots) + 1))))
