"""Measure a server under load."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import Counts, json_option, read_text
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._tables import console, figures
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.load.figures import Figures, Limits, Spread
    from apportion.bench.load.measure import Shape
    from apportion.bench.load.server import Server

positive = click.FloatRange(min=0, min_open=True)
PER_CLIENT = 4  # requests, where their number is not said
OPEN_REQUESTS = 32


@click.command()
@click.argument("url", metavar="URL")
@click.option("--model", help="As the server calls it [default: the first that it lists].")
@click.option(
    "--endpoint",
    type=click.Choice(["chat", "completions"]),
    default="chat",
    show_default=True,
    help="Which of the server's is asked.",
)
@click.option(
    "--clients",
    type=Counts(),
    help="So many clients that wait for their answers; several numbers for one line each [default: 1].",
)
@click.option("--rate", type=positive, help="So many requests a second on average, at times drawn by chance.")
@click.option("--burst", type=click.IntRange(min=1), help="With --rate: as many come at once.")
@click.option("--trace", type=click.Path(path_type=Path), help="Requests come as in a trace of a service.")
@click.option("--interval", type=positive, help="With --trace: times as far apart.")
@click.option("--length", type=positive, help="With --trace: times as many tokens.")
@click.option("--every", type=click.IntRange(min=1), help="With --trace: only each so-many-th request.")
@click.option(
    "--requests", type=click.IntRange(min=1), help="How many [default: 4 for each client, 32 else]."
)
@click.option("--prompt", type=click.IntRange(min=1), default=256, show_default=True, help="Tokens of each.")
@click.option(
    "--output", type=click.IntRange(min=1), default=64, show_default=True, help="Tokens of each answer."
)
@click.option(
    "--text",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    help="Cut prompts from this file [default: common words by chance].",
)
@click.option("--shared-prefix", type=click.IntRange(min=0), default=0, help="Tokens that all begin with.")
@click.option(
    "--warmup", type=click.IntRange(min=0), default=1, show_default=True, help="Uncounted requests."
)
@click.option("--slo-ttft", type=positive, default=2.0, show_default=True, help="Seconds to the first token.")
@click.option("--slo-tpot", type=positive, default=0.2, show_default=True, help="Seconds per further token.")
@click.option("--time-limit", type=positive, default=300.0, show_default=True, help="Seconds of each line.")
@click.option("--seed", type=click.IntRange(min=0), help="Repeat the same load [default: a new one].")
@click.option("--end-early", is_flag=True, help="Let answers end where the model ends them.")
@click.option(
    "--api-key-env",
    metavar="NAME",
    default="OPENAI_API_KEY",
    show_default=True,
    help="Environment variable with the key for the server.",
)
@json_option
def command(url: str, seed: int | None, as_json: bool, **options: Any) -> None:
    """Measure a server under load, ours or any other that speaks the OpenAI API.

    With --clients each client sends its next request when its last was answered. With --rate or --trace
    requests come when they are due, whatever became of those before (an open loop); a trace is one that
    `apportion simulate` reads, and its lengths stand in place of --prompt and --output. No two prompts begin
    alike, so that nothing of them is cached, unless --shared-prefix says so.

    A request is served well that meets --slo-ttft and --slo-tpot; goodput counts those. Times count from when
    a request was due. With --json also what each figure is made of.
    """
    from apportion.bench.load.figures import Limits
    from apportion.bench.load.measure import measure
    from apportion.bench.load.prompts import Prompts, Words, lengths_of
    from apportion.bench.provenance import provenance

    seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    shapes = shapes_of(seed, options)
    server = server_of(url, options)
    words = Words(None if options["text"] is None else read_text(options["text"]))
    shortest = min(order.prompt_tokens for shape in shapes for order in shape.orders)
    lengths = lengths_of(server, words, seed, shortest)
    limits = Limits(options["slo_ttft"], options["slo_tpot"])
    lines = []
    with PhaseBars() as bars:
        for place, shape in enumerate(shapes):
            # Prompts of its own: those of the line before may be cached.
            prompts = Prompts(words, lengths, f"{seed} {place}", options["shared_prefix"])
            told = partial(show, bars, len(shape.orders))
            rest = {"warmup": options["warmup"], "limit_s": options["time_limit"], "on_answer": told}
            lines.append(measure(server, shape, prompts, limits, **rest))
    if as_json:
        results = [{"load": one.title, **asdict(line)} for one, line in zip(shapes, lines, strict=True)]
        print_object(facts(server, seed, options) | {"results": results, "provenance": asdict(provenance())})
    else:
        print_lines(server, shapes, lines, limits, seed)


def show(bars: PhaseBars, total: int, answered: int) -> None:
    bars("bench", answered, total)


def server_of(url: str, options: dict[str, Any]) -> Server:
    """The server, and what it calls its model."""
    from apportion.bench.load.server import Server, address_of, model_of

    address, key = address_of(url), os.environ.get(options["api_key_env"], "")
    model = options["model"] or model_of(address, key)
    return Server(address, model, options["endpoint"], key, ignore_eos=not options["end_early"])


# --- what comes ---


def shapes_of(seed: int, options: dict[str, Any]) -> list[Shape]:
    """One for each line.

    Raises:
        UsageError: options exclude each other, or there is nothing to send.
    """
    check_options(options)
    if options["trace"] is not None:
        return [traced(seed, options)]
    if options["rate"] is not None:
        return [drawn(seed, options)]
    return [waiting(clients, options) for clients in options["clients"] or (1,)]


def check_options(options: dict[str, Any]) -> None:
    ways = [f"--{name}" for name in ("clients", "rate", "trace") if options[name]]
    if len(ways) > 1:
        raise UsageError(f"{' and '.join(ways)} exclude each other", hint="choose one of them")
    for name, way in (("burst", "rate"), ("interval", "trace"), ("length", "trace"), ("every", "trace")):
        if options[name] is not None and options[way] is None:
            raise UsageError(f"--{name} says nothing without --{way}")
    if options["shared_prefix"] >= options["prompt"]:
        raise UsageError(
            "a prompt is longer than what all begin with",
            prompt=options["prompt"],
            shared_prefix=options["shared_prefix"],
        )


def waiting(clients: int, options: dict[str, Any]) -> Shape:
    from apportion.bench.load.arrivals import whenever
    from apportion.bench.load.measure import Shape

    number = options["requests"] or PER_CLIENT * clients
    title = f"{clients} client{'' if clients == 1 else 's'}"
    return Shape(title, clients, whenever(options["prompt"], options["output"], number))


def drawn(seed: int, options: dict[str, Any]) -> Shape:
    from apportion.bench.load.arrivals import orders, poisson
    from apportion.bench.load.measure import Shape

    rate, burst = options["rate"], options["burst"] or 1
    times = poisson(rate, burst, seed)
    title = f"{rate:g}/s" + (f", {burst} at once" if burst > 1 else "")
    number = options["requests"] or OPEN_REQUESTS
    return Shape(title, None, orders(times, options["prompt"], options["output"], number))


def traced(seed: int, options: dict[str, Any]) -> Shape:
    from apportion.bench.load.arrivals import Order
    from apportion.bench.load.measure import Shape
    from apportion.simulate.serving.traces import read_trace, scaled

    found = scaled(
        read_trace(options["trace"], seed=seed),
        interval=options["interval"] or 1.0,
        length=options["length"] or 1.0,
        every=options["every"] or 1,
    )
    some = islice(found, options["requests"] or OPEN_REQUESTS)
    orders = [Order(one.arrival_s, one.num_prompt, one.num_output) for one in some]
    if not orders:
        raise UsageError("the trace holds no requests")
    return Shape(options["trace"].name, None, orders)


# --- what is said of it ---


def facts(server: Server, seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """What the figures belong to. Neither the key nor where files lie is said."""
    said = ("prompt", "output", "shared_prefix", "warmup", "slo_ttft", "slo_tpot", "time_limit", "end_early")
    return {
        "server": f"{server.address.host}:{server.address.port}",
        "model": server.model,
        "endpoint": server.endpoint,
        "seed": seed,
        **{name: options[name] for name in said},
    }


def print_lines(
    server: Server, shapes: Sequence[Shape], lines: Sequence[Figures], limits: Limits, seed: int
) -> None:
    titles = ("load", "done", "TTFT ms", "TPOT ms", "gap ms", "answer s", "tok/s", "well", "good/s")
    rows = [(shape.title, *cells(line)) for shape, line in zip(shapes, lines, strict=True)]
    console().print(figures(titles, rows, words=("load",)))
    for shape, line in zip(shapes, lines, strict=True):
        if line.failed:
            what = ", ".join(f"{count} {kind}" for kind, count in line.failed.items())
            click.echo(f"{shape.title}: without an answer: {what}")
    click.echo(closing(server, lines, limits, seed))


def cells(line: Figures) -> list[str]:
    return [
        f"{line.answered}/{line.requests}",
        spread(line.ttft_s, 1e3, 0),
        spread(line.tpot_s, 1e3, 1),
        spread(line.gap_s, 1e3, 1),
        spread(line.e2e_s, 1, 2),
        f"{line.output_tok_s:.1f}",
        f"{line.well_served:.0%}",
        f"{line.goodput_per_s:.2f}",
    ]


def spread(values: Spread | None, factor: float, digits: int) -> str:
    if values is None:
        return "-"
    return "/".join(f"{value * factor:.{digits}f}" for value in (values.p50, values.p90, values.p99))


def closing(server: Server, lines: Sequence[Figures], limits: Limits, seed: int) -> str:
    answered = max(1, sum(line.answered for line in lines))
    prompt, cached, output = (
        sum(getattr(line, name) for line in lines) / answered
        for name in ("prompt_tokens", "cached_tokens", "output_tokens")
    )
    cost = max(line.generator_us_per_token for line in lines)
    return (
        f"{server.model}: prompts of {prompt:.0f} tokens ({cached:.0f} cached), answers of {output:.0f}; "
        f"times at 50/90/99 of 100; well: TTFT up to {limits.ttft_s:g} s, TPOT up to {limits.tpot_s * 1e3:g} "
        f"ms\nsent {max(line.late_s for line in lines) * 1e3:.1f} ms late at most; the generator took "
        f"{cost:.0f} µs of processor time for a token; seed {seed}"
    )
