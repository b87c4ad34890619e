"""Routes of a model's experts: record them, make some, replay them through caches."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apportion.cli._options import (
    BudgetOptions,
    EngineOptions,
    budget_options,
    engine_options,
    json_option,
    model_argument,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._routes import (
    curve_of,
    facts_of,
    header_of,
    print_facts,
    print_rows,
    replay_all,
    usual_slots,
)
from apportion.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel
    from apportion.policies.expert_cache import ExpertCache
    from apportion.simulate.generate import LruCurve

QUARTERS = (0.25, 0.5, 0.75)
USUAL_CTX = 2048

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
@click.option(
    "--save-curve",
    metavar="OUT",
    type=click.Path(path_type=Path),
    help="Keep LRU's hit rates for later plans.",
)
@json_option
def info(file: Path, skip: int, save_curve: Path | None, as_json: bool) -> None:
    """Show whose routes a file holds, and how often a cache with so many slots would have hit."""
    from apportion.formats.routes import RoutesFile

    with RoutesFile(file) as routes:
        facts = facts_of(routes, skip)
    if save_curve is not None:
        save_curve.write_text(json.dumps(curve_of(facts)) + "\n", encoding="utf-8")
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
@click.option("--curve", metavar="CURVE", help="Hit rates of LRU, as 0.25:0.5,0.5:0.8 or qwen3moe.")
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
    with slots for half of them; between the points, and to none and all, hit rates follow straight lines. The
    name of a model family stands for the curve that is published for it.
    """
    from itertools import islice

    from apportion.formats.routes import RoutesFile, RoutesShape, RoutesWriter
    from apportion.simulate.generate import LruCurve, generate_routes

    if uniform == (curve is not None):
        raise UsageError("say which routes to make", hint="give either --curve or --uniform")
    asked = LruCurve() if curve is None else asked_curve(curve, experts, top_k)
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
    help="The text file that the model reads.",
)
@click.option(
    "--random-tokens",
    metavar="COUNT",
    type=click.IntRange(min=1),
    help="So many tokens by chance in place of a text, as `apportion bench` reads them.",
)
@click.option(
    "--ctx",
    type=click.IntRange(min=2),
    help="Tokens after which the model begins anew [default: 2048, or what model and budget allow].",
)
@click.option("--limit-tokens", type=click.IntRange(min=1), help="Read only the first tokens of the text.")
@click.option("--inputs", is_flag=True, help="Record what the routers see, too: much larger.")
@engine_options
@budget_options
@json_option
def record(
    model: str,
    out: Path,
    text: Path | None,
    random_tokens: int | None,
    ctx: int | None,
    limit_tokens: int | None,
    inputs: bool,
    engine: EngineOptions,
    budget: BudgetOptions,
    as_json: bool,
) -> None:
    """Record the routes of a model that reads a text, or tokens by chance.

    Without --ram the model computes one operation after the other here, more slowly than in `apportion run`.
    What is recorded when the recording is interrupted can be used.
    """
    from contextlib import closing
    from dataclasses import replace

    from apportion.bench.speed import random_ids
    from apportion.cli._loading import load_alone
    from apportion.cli.eval import bos_of, ops_of, read_text
    from apportion.formats.routes import RoutesFile, RoutesWriter
    from apportion.simulate.record import record_routes, shape_of, windows_of

    if (text is None) == (random_tokens is None):
        raise UsageError("say what the model is to read", hint="give either --text or --random-tokens")
    words = "" if text is None else read_text(text)
    stated = budget.budget(ctx, engine.kv)
    told = None if stated is None else replace(stated, tells_routes=True)
    with (
        PhaseBars() as bars,
        closing(load_alone(model, ops_of(engine), engine.offline, bars, told)) as loaded,
    ):
        shape = shape_of(loaded.model, loaded.name, inputs)
        if random_tokens:
            ids = random_ids(loaded.model, random_tokens, seed=0).tolist()
        else:
            ids = loaded.tokenizer.encode(words, add_special=False, parse_special=False)[:limit_tokens]
        if not ids:
            raise UsageError(f"{text} holds no text", hint="give a text that is worth reading")
        positions, kv = context_of(loaded, ctx, engine.kv)
        windows = windows_of(ids, positions, bos_of(loaded.tokenizer))
        total = sum(len(window) for window in windows)
        with RoutesWriter(out, shape) as writer:
            on_tokens = partial(bars, "record", total=total)
            record_routes(loaded.model, windows, writer, kv, on_tokens)
    with RoutesFile(out) as routes:
        facts = facts_of(routes, 0)
    print_object(facts) if as_json else print_facts(facts)


def context_of(loaded: LoadedModel, ctx: int | None, kv: str) -> tuple[int, str]:
    """Positions of a window, and the number type of its keys and values; a plan that is in force has both."""
    positions = min(ctx or USUAL_CTX, loaded.model.config.context_length)
    if loaded.apportioned is None:
        return positions, kv
    plan = loaded.apportioned.plan
    return min(positions, plan.ctx), plan.kv


def asked_curve(words: str, num_experts: int, top_k: int) -> LruCurve:
    """The curve that is written out, or the one of the named family where a cache can serve a step.

    What a published curve lacks at full size are the misses of its cold start: rates are relative to it.
    """
    from apportion.plan.curves import PUBLISHED
    from apportion.simulate.generate import LruCurve

    if ":" in words:
        return LruCurve.parse(words)
    if words not in PUBLISHED:
        raise unknown("published curve", words, PUBLISHED, UsageError)
    found = PUBLISHED[words]
    pairs = zip(found.fractions, found.rates, strict=True)
    kept = [(share, rate / found.rates[-1]) for share, rate in pairs if top_k <= share * num_experts]
    return LruCurve(tuple((share, rate) for share, rate in kept if share < 1))


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
