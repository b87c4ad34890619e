"""Routes of a model's experts: record them, make some, replay them through caches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import EngineOptions, engine_options, json_option, model_argument
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.formats.routes import RoutesFile
    from apportion.policies.expert_cache import ExpertCache
    from apportion.simulate.replay import Ids, Replay

SHOWN = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)  # of the experts, at which a curve is shown
QUARTERS = (0.25, 0.5, 0.75)

routes_argument = click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)
out_argument = click.argument("out", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
skip_option = click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Tokens at the front that fill the caches and are not counted.",
)


@click.group(subcommand_metavar="info|replay|generate|record ...")
def command() -> None:
    """Routes of a model's experts: record them, make some, replay them through caches.

    A routes file says which experts of each layer each token chose.
    """


@command.command()
@routes_argument
@skip_option
@json_option
def info(file: Path, skip: int, as_json: bool) -> None:
    """Show whose routes a file holds, and how often a cache with so many slots would have hit."""
    from apportion.formats.routes import RoutesFile

    with RoutesFile(file) as routes:
        facts = facts_of(routes, skip)
    print_object(facts) if as_json else print_facts(facts)


@command.command()
@routes_argument
@click.option("--slots", help="Slots of each layer, as 8,16 or 25%,50% [default: 25%,50%,75%].")
@click.option("--policy", help="Expert caches, as lru,lfu_aged:half_life=8 [default: all].")
@skip_option
@json_option
def replay(file: Path, slots: str | None, policy: str | None, skip: int, as_json: bool) -> None:
    """Hit rates of expert caches on recorded routes.

    Every layer has its own cache, which begins empty. `belady` knows what is to come: no cache that reads on
    demand has more hits.
    """
    from apportion.formats.routes import RoutesFile

    policies = policies_of(policy)
    with RoutesFile(file) as routes, PhaseBars() as bars:
        num_experts, top_k = routes.shape.num_experts, routes.shape.top_k
        counts = slots_of(slots, num_experts, top_k) if slots else usual_slots(QUARTERS, num_experts, top_k)
        experts = routes.experts()
        rows = replay_all(experts, num_experts, counts, policies, skip, bars)
        facts = {**header_of(routes), "skip": skip, "rows": rows}
    print_object(facts) if as_json else print_rows(facts, counts)


@command.command()
@out_argument
@click.option("--layers", type=click.IntRange(1, 4096), required=True, help="Layers with experts.")
@click.option("--experts", type=click.IntRange(1, 65536), required=True, help="Experts of each layer.")
@click.option("--top-k", type=click.IntRange(1, 65536), required=True, help="Experts per token and layer.")
@click.option("--tokens", type=click.IntRange(min=1), required=True, help="Tokens to make.")
@click.option("--curve", metavar="SHARE:RATE,...", help="Hit rates of LRU, as 0.25:0.5,0.5:0.8.")
@click.option("--uniform", is_flag=True, help="Each expert as likely as the others at every token.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Repeat the same draws."
)
@json_option
def generate(
    out: Path,
    layers: int,
    experts: int,
    top_k: int,
    tokens: int,
    curve: str | None,
    uniform: bool,
    seed: int,
    as_json: bool,
) -> None:
    """Make routes on which an LRU cache has stated hit rates.

    --curve 0.25:0.5,0.5:0.8 asks for 50% of hits with slots for a quarter of each layer's experts and for 80%
    with slots for half of them; between the points, and to none and all, hit rates follow straight lines.
    """
    from itertools import islice

    from apportion.formats.routes import RoutesFile, RoutesShape, RoutesWriter
    from apportion.simulate.generate import LruCurve, generate_routes

    if uniform == (curve is not None):
        raise UsageError("say which routes to make", hint="give either --curve or --uniform")
    asked = LruCurve.parse(curve) if curve else LruCurve()
    made = generate_routes(asked, layers, experts, top_k, seed)
    name = f"made to {curve}" if curve else "made uniform"
    shape = RoutesShape(f"{name}, seed {seed}", tuple(range(layers)), experts, top_k)
    with PhaseBars() as bars, RoutesWriter(out, shape) as writer:
        for token in islice(made, tokens):
            writer.append(token[None])
            bars("make", writer.num_tokens, tokens)
    with RoutesFile(out) as routes:
        facts = facts_of(routes, 0)
    print_object(facts) if as_json else print_facts(facts)


@command.command()
@model_argument
@out_argument
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    required=True,
    help="The text file that the model reads.",
)
@click.option(
    "--ctx",
    type=click.IntRange(min=2),
    default=2048,
    show_default=True,
    help="Tokens after which the model begins anew, or fewer if it has not so many positions.",
)
@click.option("--limit-tokens", type=click.IntRange(min=1), help="Read only the first tokens of the text.")
@click.option("--inputs", is_flag=True, help="Record what the routers see, too: much larger.")
@engine_options
@json_option
def record(
    model: str,
    out: Path,
    text: Path,
    ctx: int,
    limit_tokens: int | None,
    inputs: bool,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Record the routes of a model that reads a text.

    The model computes one operation after the other here, more slowly than in `apportion run`. What is
    recorded when the recording is interrupted can be used.
    """
    from apportion.cli._loading import load_alone
    from apportion.cli.eval import bos_of, ops_of, read_text
    from apportion.engine.llm import KV_TYPES
    from apportion.formats.routes import RoutesFile, RoutesWriter
    from apportion.simulate.record import record_routes, shape_of, windows_of

    words = read_text(text)
    with PhaseBars() as bars:
        loaded = load_alone(model, ops_of(engine), engine.offline, bars)
        shape = shape_of(loaded.model, loaded.name, inputs)
        ids = loaded.tokenizer.encode(words, add_special=False, parse_special=False)[:limit_tokens]
        if not ids:
            raise UsageError(f"{text.name} holds no text", hint="give a text that is worth reading")
        positions = min(ctx, loaded.model.config.context_length)
        windows = windows_of(ids, positions, bos_of(loaded.tokenizer))
        total = sum(len(window) for window in windows)
        with RoutesWriter(out, shape) as writer:
            record_routes(
                loaded.model,
                windows,
                writer,
                KV_TYPES[engine.kv],
                lambda done: bars("record", done, total),
            )
    with RoutesFile(out) as routes:
        facts = facts_of(routes, 0)
    print_object(facts) if as_json else print_facts(facts)


def policies_of(words: str | None) -> dict[str, ExpertCache]:
    """The expert caches in `lru,lfu`, all that there are if None, by what was written."""
    from apportion.policies import EXPERT_CACHES

    names = list(EXPERT_CACHES) if words is None else [word.strip() for word in words.split(",")]
    return {name: EXPERT_CACHES.choose(name) for name in names}


def slots_of(words: str, num_experts: int, top_k: int) -> list[int]:
    """The numbers in `8,25%`, each once and rising."""
    counts = set()
    for word in words.split(","):
        try:
            count = float(word.strip().removesuffix("%"))
            counts.add(round(count * num_experts / 100) if word.strip().endswith("%") else int(word))
        except (ValueError, OverflowError):
            raise UsageError(f"not a number of slots: {word!r}", hint="write 8,16 or 25%,50%") from None
    if min(counts) < top_k or max(counts) > num_experts:
        raise UsageError(
            "that many slots cannot be",
            f"a token uses {top_k} of a layer's {num_experts} experts at once",
            f"choose {top_k} to {num_experts}",
            slots=sorted(counts),
        )
    return sorted(counts)


def usual_slots(shares: Sequence[float], num_experts: int, top_k: int) -> list[int]:
    """Slots for so many of the experts, where that is enough for a step."""
    return sorted({max(round(share * num_experts), top_k) for share in shares})


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
    from apportion.simulate.replay import lru_curve

    shape, experts = routes.shape, routes.experts()
    return {
        **header_of(routes),
        "gates": shape.gates,
        "hidden": shape.hidden,
        "file_bytes": routes.path.stat().st_size,
        "cut_bytes": routes.num_cut_bytes,
        "repeated": repeated(experts),
        "repeated_by_chance": shape.top_k / shape.num_experts,
        "skip": skip,
        "lru_curve": lru_curve(experts, shape.num_experts, skip),
    }


def repeated(experts: Ids) -> float:
    """The share of uses that the token before had in the same layer."""
    layers = (experts[:, layer] for layer in range(experts.shape[1]))
    again = sum(int((ids[1:, :, None] == ids[:-1, None, :]).sum()) for ids in layers)
    return again / max(experts[1:].size, 1)


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
    from apportion.cli.inspect import table
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
    print_table(table((facts["model"] or "unnamed", ""), rows))
    curve = facts["lru_curve"]
    shown = usual_slots(SHOWN, facts["num_experts"], facts["top_k"])
    points = [(count, f"{count / facts['num_experts']:.1%}", f"{curve[count]:.1%}") for count in shown]
    print_table(table(("slots per layer", "of its experts", "hits of LRU"), points, numbers=(0, 1, 2)))


def print_rows(facts: dict[str, Any], slots: Sequence[int]) -> None:
    from apportion.cli.inspect import table

    rates = {(row["policy"], row["slots"]): f"{row['hit_rate']:.1%}" for row in facts["rows"]}
    names = dict.fromkeys(row["policy"] for row in facts["rows"])
    title = f"{facts['model'] or 'unnamed'}, {max(facts['tokens'] - facts['skip'], 0):,} tokens"
    titles = (title, *(f"{count} slots ({count / facts['num_experts']:.0%})" for count in slots))
    rows = [(name, *(rates[name, count] for count in slots)) for name in names]
    print_table(table(titles, rows, numbers=tuple(range(1, len(slots) + 1))))


def print_table(content: Any) -> None:
    import sys

    from rich.console import Console

    from apportion.cli.inspect import WIDTH

    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False, markup=False).print(content)
