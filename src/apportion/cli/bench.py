"""Measure prefill and decode speed, memory, and the share of bandwidth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from apportion.cli._loading import load_alone
from apportion.cli._options import json_option, model_argument, offline_option
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.speed import Measurement
    from apportion.models import Model


class Counts(click.ParamType[tuple[int, ...]]):
    """`512,2048`: positive whole numbers."""

    name = "counts"

    def convert(
        self, value: str | tuple[int, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(word) for word in value.split(",") if word.strip())
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 512,2048", param, ctx)
        if any(count < 0 for count in counts):
            self.fail(f"{value!r} holds a negative number", param, ctx)
        return tuple(count for count in counts if count)


@click.command()
@model_argument
@click.option("--prompt", type=Counts(), default="512", show_default=True, help="Prompt lengths; 0 for none.")
@click.option("--decode", type=Counts(), default="128", show_default=True, help="Answer lengths; 0 for none.")
@click.option("--threads", type=Counts(), default="0", help="Numbers of threads [default: all cores].")
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=5, show_default=True, help="Runs that count."
)
@click.option("--exact", is_flag=True, help="Compute in float32 throughout.")
@offline_option
@json_option
def command(
    model: str,
    prompt: tuple[int, ...],
    decode: tuple[int, ...],
    threads: tuple[int, ...],
    repetitions: int,
    exact: bool,
    offline: bool,
    as_json: bool,
) -> None:
    """Measure prefill and decode speed, memory, and the share of bandwidth.

    Every length runs once uncounted and then --repetitions times, into an empty context. The share of
    bandwidth is what the weights read per second are of what as many threads stream from memory, measured on
    the spot.
    """
    from apportion.bench.speed import Phase, measure, with_bandwidth
    from apportion.core.resident import peak_rss_bytes
    from apportion.core.settings import THREADS, get
    from apportion.kernels import NativeOps
    from apportion.models import bytes_per_token

    phases: list[tuple[Phase, int]] = [("prefill", n) for n in prompt] + [("decode", n) for n in decode]
    if not phases:
        raise UsageError("there is nothing to measure", hint="give --prompt or --decode a length")
    ops = NativeOps(threads=max(threads, default=0) or get(THREADS), exact=exact)
    with PhaseBars() as bars:
        loaded = load_alone(model, ops, offline, bars)
        require_context(max(n for _, n in phases), loaded.model)
        lines = measure(
            partial(with_threads, loaded.model, exact),
            phases,
            threads or (ops.threads,),
            repetitions,
            partial(bars, "bench"),
        )
        peak = peak_rss_bytes()  # before the bandwidth's own buffers
        results = with_bandwidth(lines, bytes_per_token(loaded.model.config, loaded.checkpoint.tensors))
    if as_json:
        print_object(
            {"model": loaded.name, "results": [asdict(one) for one in results], "peak_rss_bytes": peak}
        )
    else:
        print_table(loaded.name, results, peak)


def with_threads(model: Model, exact: bool, threads: int) -> Model:
    """The same weights, computed by so many threads."""
    from apportion.kernels import NativeOps
    from apportion.models import Model

    return Model(model.config, model.weights, NativeOps(threads=threads, exact=exact), model.notes)


def require_context(tokens: int, model: Model) -> None:
    if tokens > model.config.context_length:
        raise UsageError(
            "a length is beyond the model's context", tokens=tokens, context=model.config.context_length
        )


def print_table(name: str, results: Sequence[Measurement], peak: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from apportion.core.units import format_bytes

    table = Table(box=None, pad_edge=False)
    table.add_column("phase")
    for column in ("tokens", "threads", "tok/s", "min", "max", "bytes/token", "of bandwidth"):
        table.add_column(column, justify="right")
    for one in results:
        rates = one.tok_s
        table.add_row(
            one.phase,
            str(one.tokens),
            str(one.threads),
            *(f"{rate:.1f}" for rate in (rates.median, rates.min, rates.max)),
            format_bytes(round(one.bytes_per_token)),
            f"{100 * one.bandwidth_share:.1f}%",
        )
    Console(highlight=False).print(table)
    click.echo(f"{name}: peak memory {format_bytes(peak)}")
