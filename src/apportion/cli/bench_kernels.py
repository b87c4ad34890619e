"""Measure products of every format as shares of the machine's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import json_option
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.core.errors import UsageError, unknown

if TYPE_CHECKING:
    from apportion.bench.kernels import KernelBench
    from apportion.bench.shapes import ModelShape
    from apportion.formats.block import BlockFormat


@click.command()
@click.option("--formats", help="Block formats, as q4_0,q8_0 [default: all that are computed on].")
@click.option("--shapes", help="Models whose shapes are taken, as smollm2-135m,olmoe [default: all].")
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute [default: all cores].")
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=512,
    show_default=True,
    help="Tokens of a matrix-matrix product.",
)
@click.option(
    "--repetitions", type=click.IntRange(min=1), default=5, show_default=True, help="Runs that count."
)
@click.option("--exact", is_flag=True, help="Compute in float32 throughout.")
@json_option
def command(
    formats: str | None,
    shapes: str | None,
    threads: int | None,
    tokens: int,
    repetitions: int,
    exact: bool,
    as_json: bool,
) -> None:
    """Measure products of every format as shares of the machine's limits.

    Matrix-vector products are held against the bandwidth of a plain stream from memory, matrix-matrix
    products against the peak of multiply-adds in registers; both limits are measured beside each product.
    The shapes are those of SmolLM2 135M, Gemma 3 270M, OLMoE and Qwen3 30B A3B: the products of a layer
    summed up, and the head. Prints Markdown.
    """
    from apportion.bench.kernel_table import markdown
    from apportion.bench.kernels import KernelBench
    from apportion.bench.provenance import provenance
    from apportion.core.settings import THREADS, get
    from apportion.kernels import NativeOps

    ops = NativeOps(threads or get(THREADS), exact)
    pairs = [(shape, form) for form in wanted_formats(formats) for shape in wanted_shapes(shapes)]
    with PhaseBars() as bars:
        results = measure_all(KernelBench(ops, tokens, repetitions), pairs, bars)
    report = {
        "provenance": asdict(provenance()),
        "threads": ops.threads,
        "isa": ops.isa,
        "exact": exact,
        "tokens": tokens,
        "repetitions": repetitions,
        "results": results,
    }
    if as_json:
        print_object(report)
    else:
        click.echo(markdown(report))


def measure_all(
    bench: KernelBench, pairs: Sequence[tuple[ModelShape, BlockFormat]], bars: PhaseBars
) -> list[dict[str, Any]]:
    results = []
    for done, (shape, block_format) in enumerate(pairs, start=1):
        results += [asdict(one) for one in bench.measure(shape, block_format)]
        bars("bench", done, len(pairs), f"{block_format.name} at {shape.name}")
    return results


def wanted_formats(words: str | None) -> list[BlockFormat]:
    from apportion.formats.blocks import FORMATS

    known = {name: block_format for name, block_format in FORMATS.items() if block_format.native}
    return [known[name] for name in chosen("block format", words, list(known))]


def wanted_shapes(words: str | None) -> list[ModelShape]:
    from apportion.bench.shapes import SHAPES

    return [SHAPES[name] for name in chosen("shape", words, list(SHAPES))]


def chosen(kind: str, words: str | None, known: Sequence[str]) -> list[str]:
    """The names in `a,b`, all that there are if None."""
    if words is None:
        return list(known)
    names = [word.strip() for word in words.split(",") if word.strip()]
    for name in names:
        if name not in known:
            raise unknown(kind, name, known, UsageError)
    return names
