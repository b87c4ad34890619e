"""Measure prefill and decode speed, memory, and the share of bandwidth."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from apportion.cli._loading import load_alone
from apportion.cli._options import (
    BudgetOptions,
    Counts,
    budget_options,
    json_option,
    model_argument,
    offline_option,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.speed import Line, Report
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
    budget: BudgetOptions,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure prefill and decode speed, memory, and the share of bandwidth.

    Every line runs once uncounted; then --repetitions rounds measure each line beside what as many threads
    stream from memory. The table shows the median with the smallest and the largest rate, the bytes that a
    token reads (weights, and the KV cache at the depth), what share of the streamed bandwidth that makes, and
    the time that a pass spends outside of the native core.
    """
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
    with PhaseBars() as bars:
        longest = max(line.end for line in lines)
        loaded = load_alone(model, ops, offline, bars, budget.budget(longest))
        require_context(longest, loaded.model)
        report = measure(
            partial(with_threads, loaded.model, exact),
            lines,
            repetitions,
            partial(bytes_of, loaded),
            partial(bars, "bench"),
        )
    if as_json:
        print_object({"model": loaded.name, **asdict(report), "provenance": asdict(provenance())})
    else:
        print_table(loaded.name, report)


def bytes_of(loaded: LoadedModel, line: Line) -> float:
    """Bytes that a line reads per token: weights, and when decoding the keys and values of the mean step."""
    from apportion.bench.speed import CHUNK
    from apportion.models import bytes_per_pass, kv_bytes_seen

    config, tensors = loaded.model.config, loaded.checkpoint.tensors
    if line.phase == "prefill":
        tokens = min(CHUNK, line.tokens)
        return bytes_per_pass(config, tensors, tokens) / tokens
    seen = sum(kv_bytes_seen(config, position + 1) for position in range(line.depth, line.end))
    return bytes_per_pass(config, tensors, 1) + seen / line.tokens


def with_threads(model: Model, exact: bool, threads: int) -> Model:
    """The same weights, computed by so many threads."""
    from apportion.kernels import NativeOps

    return model.computed_by(NativeOps(threads=threads, exact=exact))


def require_context(tokens: int, model: Model) -> None:
    if tokens > model.config.context_length:
        raise UsageError(
            "a length is beyond the model's context", tokens=tokens, context=model.config.context_length
        )


def print_table(name: str, report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    from apportion.core.units import format_bytes

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("phase")
    for column in ("tokens", "depth", "threads", "tok/s", "min", "max", "a token", "of RAM", "Python"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in report.results:
        rates = one.tok_s
        table.add_row(
            one.phase,
            *(str(count) for count in (one.tokens, one.depth, one.threads)),
            *(f"{rate:.1f}" for rate in (rates.median, rates.min, rates.max)),
            format_bytes(round(one.bytes_per_token)),
            f"{100 * one.bandwidth_share:.1f}%",
            f"{one.python_us_per_step:.0f} µs",
        )
    Console(highlight=False).print(table)
    streams = {one.threads: one.bandwidth_gb_s.median for one in report.results}
    read = ", ".join(f"{rate:.1f} GB/s on {threads}" for threads, rate in sorted(streams.items()))
    click.echo(f"{name}: peak memory {format_bytes(report.peak_rss_bytes)}; memory streams {read} threads")
