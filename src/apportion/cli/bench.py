"""Measure prefill and decode speed, memory, and the share of bandwidth."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apportion.cli._bench import hit_rates_of, print_report, terms_of
from apportion.cli._loading import load_alone
from apportion.cli._options import (
    BudgetOptions,
    Counts,
    budget_options,
    curve_option,
    hit_rates_of_curve,
    json_option,
    kv_option,
    model_argument,
    offline_option,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.speed import Line
    from apportion.engine.loading import LoadedModel
    from apportion.models import Model


@click.command()
@model_argument
@click.option("--prompt", type=Counts(), default="512", show_default=True, help="Prompt lengths; 0 for none.")
@click.option("--decode", type=Counts(), default="128", show_default=True, help="Answer lengths; 0 for none.")
@click.option(
    "--depth",
    type=Counts(keep_zero=True),
    default="0",
    show_default=True,
    help="Positions that the context holds before an answer.",
)
@click.option("--threads", type=Counts(), default="0", help="Numbers of threads [default: all cores].")
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=5, show_default=True, help="Runs that count."
)
@click.option("--exact", is_flag=True, help="Compute in float32 throughout.")
@kv_option
@click.option(
    "--routes",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Under --ram: experts as this routes file names them, in place of the router's.",
)
@curve_option
@click.option(
    "--warmup",
    metavar="TOKENS",
    type=click.IntRange(min=0),
    help="Under --ram: tokens of an answer that are not counted [default: one answer].",
)
@click.option("--cold", is_flag=True, help="Under --ram: count from the first token, as --warmup 0.")
@budget_options
@offline_option
@json_option
def command(
    model: str,
    prompt: tuple[int, ...],
    decode: tuple[int, ...],
    depth: tuple[int, ...],
    threads: tuple[int, ...],
    repetitions: int,
    exact: bool,
    kv: str,
    routes: Path | None,
    curve: str | None,
    warmup: int | None,
    cold: bool,
    budget: BudgetOptions,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure prefill and decode speed, memory, and the share of bandwidth.

    Decode lines write tokens one by one and find the likeliest after each, as a greedy answer does.

    Every line runs once uncounted; then --repetitions rounds measure each line beside what as many threads
    stream from memory. The table shows the median with the smallest and the largest rate, the bytes that a
    token reads (weights, and the KV cache at the depth), what share of the streamed bandwidth that makes, and
    the time that a pass spends outside of the native core.

    Under --ram or --plan the lines run one after the other. Beside the median stand its forecast and by how
    much that is too high, the share of a token's experts that were found in memory, the bytes that a token
    reads from disk, the disk's rate, and the share of the time in which nothing was computed for its sake.
    """
    from apportion.bench.budgeted import measure_budgeted
    from apportion.bench.provenance import provenance
    from apportion.bench.speed import Line, measure
    from apportion.core.settings import THREADS, get
    from apportion.kernels import NativeOps

    ops = NativeOps(threads=max(threads, default=0) or get(THREADS), exact=exact)
    lines = [
        line
        for count in threads or (ops.threads,)
        for line in (
            *(Line("prefill", tokens, count) for tokens in prompt),
            *(Line("decode", tokens, count, start) for start in depth for tokens in decode),
        )
    ]
    if not lines:
        raise UsageError("there is nothing to measure", hint="give --prompt or --decode a length")
    if cold and warmup:
        raise UsageError("--cold and --warmup exclude each other")
    warmup = 0 if cold else warmup
    if budget.ram is None and budget.plan is None and (routes or curve or warmup is not None):
        raise UsageError(
            "--routes, --curve, --warmup and --cold need a budget", hint="give one, as --ram 50%"
        )
    if routes and curve:
        raise UsageError("--routes and --curve exclude each other", "routes have a curve of their own")
    hits = hit_rates_of(routes) if routes else hit_rates_of_curve(curve) if curve else None
    plan = None
    with PhaseBars() as bars:
        longest = max(line.end for line in lines)
        loaded = load_alone(model, ops, offline, bars, budget.budget(longest, kv))
        require_context(longest, loaded.model)
        model_of, on_run = partial(with_threads, loaded.model, exact), partial(bars, "bench")
        if loaded.apportioned is None:
            report = measure(model_of, lines, repetitions, partial(bytes_of, loaded, kv), on_run, kv)
        else:
            plan, terms = terms_of(loaded, lines, repetitions, warmup, routes, hits)
            seen = partial(bytes_of, loaded, plan.kv)
            report = measure_budgeted(model_of, lines, repetitions, seen, terms, on_run)
    if as_json:
        told = {"plan": None if plan is None else plan.to_dict(), "provenance": asdict(provenance())}
        print_object({"model": loaded.name, **asdict(report), **told})
    else:
        print_report(loaded.name, report, plan)


def bytes_of(loaded: LoadedModel, kv: str, line: Line) -> float:
    """Bytes that a line reads per token: weights, and when decoding the keys and values of the mean step."""
    from apportion.bench.speed import CHUNK
    from apportion.models import bytes_per_pass, kv_bytes_seen

    config, tensors = loaded.model.config, loaded.checkpoint.tensors
    if line.phase == "prefill":
        tokens = min(CHUNK, line.tokens)
        return bytes_per_pass(config, tensors, tokens) / tokens
    seen = sum(kv_bytes_seen(config, position + 1, kv) for position in range(line.depth, line.end))
    return bytes_per_pass(config, tensors, 1) - loaded.model.bytes_spared + seen / line.tokens


def with_threads(model: Model, exact: bool, threads: int) -> Model:
    """The same weights, computed by so many threads."""
    from apportion.kernels import NativeOps

    return model.computed_by(NativeOps(threads=threads, exact=exact))


def require_context(tokens: int, model: Model) -> None:
    if tokens > model.config.context_length:
        raise UsageError(
            "a length is beyond the model's context", tokens=tokens, context=model.config.context_length
        )
