"""Measure many requests at once."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

import click

from apportion.cli._loading import load_llm
from apportion.cli._options import (
    BudgetOptions,
    Counts,
    EngineOptions,
    budget_options,
    engine_options,
    json_option,
    model_argument,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._serving import ServingOptions, serving_options
from apportion.cli._tables import console, figures
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.requests import Together


@click.command()
@model_argument
@click.option(
    "--requests",
    type=Counts(),
    default="1,8",
    show_default=True,
    help="How many there are at once; several for one line each.",
)
@click.option("--prompt", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens of each.")
@click.option(
    "--output", type=click.IntRange(min=2), default=128, show_default=True, help="Tokens of each answer."
)
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=3, show_default=True, help="Runs that count."
)
@budget_options
@serving_options
@engine_options
@json_option
def command(
    model: str,
    requests: tuple[int, ...],
    prompt: int,
    output: int,
    repetitions: int,
    budget: BudgetOptions,
    serving: ServingOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Measure many requests at once.

    All requests of a line are there at the beginning, of tokens of a text (random ones where weights come and
    go) and for answers of one length. The table shows what they get together: tokens of all answers a second,
    with the smallest and the largest of --repetitions runs, with and without the time that reading their
    prompts takes; and what a request in the middle waits for: its first token, and each one after that. Where
    weights come and go, also the bytes that a token reads from disk. KV has room for all of them unless
    --concurrency says less.
    """
    from apportion.bench.provenance import provenance
    from apportion.bench.requests import measure_together

    if not requests:
        raise UsageError("there is nothing to measure", hint="give --requests a number")
    with PhaseBars() as bars:
        terms = with_room(serving, max(requests))
        with load_llm(model, engine, budget, prompt + output, bars, terms.serving()) as llm:
            on_run = partial(bars, "bench")
            lines = [measure_together(llm, count, prompt, output, repetitions, on_run) for count in requests]
            name = llm.name
    if as_json:
        results = [asdict(line) for line in lines]
        print_object({"model": name, "results": results, "provenance": asdict(provenance())})
    else:
        print_lines(name, lines)


def with_room(serving: ServingOptions, requests: int) -> ServingOptions:
    """The same with KV room for so many requests, where none was asked for."""
    from dataclasses import replace

    return replace(serving, concurrency=requests) if serving.concurrency == 1 else serving


def print_lines(name: str, lines: list[Together]) -> None:
    titles = ("requests", "tok/s", "range", "decode tok/s", "first token", "next token", "disk/token")
    console().print(figures(titles, map(cells, lines)))
    click.echo(f"{name}: prompts of {lines[0].prompt} tokens, answers of {lines[0].output}")


def cells(line: Together) -> list[str]:
    from apportion.core.units import format_bytes

    total, disk = line.output_tok_s, line.disk_bytes_per_token
    return [
        str(line.concurrency),
        f"{total.median:.1f}",
        f"{total.min:.1f} to {total.max:.1f}",
        f"{line.decode_tok_s.median:.1f}",
        f"{line.ttft_s.median * 1e3:.0f} ms",
        f"{line.tpot_s.median * 1e3:.1f} ms",
        "-" if disk is None else format_bytes(round(disk)),
    ]
