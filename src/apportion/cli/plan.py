"""Say what a model would get within a budget of memory, from its headers alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from apportion.cli._options import (
    POLICY_OPTIONS,
    ctx_option,
    curve_option,
    hit_rates_of_curve,
    json_option,
    kv_option,
    model_argument,
    offline_option,
)
from apportion.cli._output import note, print_object
from apportion.cli._progress import byte_bar
from apportion.cli._serving import retention_option, scheduler_option
from apportion.cli._tables import console, table
from apportion.core.errors import DoesNotFit, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from apportion.formats.opened import OpenedFiles
    from apportion.hardware.profile import Profile
    from apportion.plan import Estimate, HitRates, Plan, Planner, PolicyNames


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the plan shall reckon with, as it was typed."""

    ctx: int | None
    concurrency: int
    prompt: int
    kv: str
    threads: int | None
    disk_bw: str | None
    hit_rate: float | None
    curve: str | None
    placement: str
    expert_cache: str
    prediction: str
    load_order: str
    scheduler: str
    retention: str
    prefill_order: Literal["layer-major", "chunked"]
    serve: bool


@click.command()
@model_argument
@click.option(
    "--ram",
    metavar="SIZE|PERCENT|auto",
    help="Memory that the whole process may take: 4GiB, 50%, or auto for what is free [default: auto].",
)
@ctx_option
@click.option("--concurrency", type=click.IntRange(min=1), default=1, show_default=True, help="Sequences.")
@click.option(
    "--prompt",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Length of the prompt that the forecast is for, in tokens.",
)
@click.option("--serve", is_flag=True, help="Reckon with what `apportion serve` takes beside the model, too.")
@kv_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads that compute [default: all cores].")
@click.option("--disk-bw", metavar="RATE", help="What the disk reads, as 2GB/s [default: as measured].")
@click.option("--hit-rate", type=float, help="Share of routed experts that are in memory, from 0 to 1.")
@curve_option
@click.option(
    "--plan",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Reckon with the choices in this plan, which may have been edited.",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Keep the plan, as JSON or, named .toml, as TOML.",
)
@POLICY_OPTIONS
@scheduler_option
@retention_option
@offline_option
@json_option
def command(
    model: str,
    ram: str | None,
    file: Path | None,
    out: Path | None,
    offline: bool,
    as_json: bool,
    **words: Any,
) -> int:
    """Say what a model would get within a budget of memory, from its headers alone.

    Tells whether it fits, how the budget is divided, which part of the model stays in memory, how fast it
    will answer, and what would help most. Of a model on the hub only the headers are read. The forecast
    reckons with the profile that `apportion probe` keeps, or else with assumed rates. The budget may be for
    another machine.
    """
    from apportion.plan import facts_of
    from apportion.sources.headers import open_headers

    if file is not None and ram is not None:
        raise UsageError("--ram and --plan exclude each other", "the plan has its budget", "leave one out")
    wishes = Wishes(**words)
    with (
        byte_bar(f"Pulling {model}") as report,
        open_headers(model, offline=offline, on_progress=report) as (found, checkpoint),
    ):
        profile = profile_for(found.path)
        planner = planner_for(checkpoint, found.name, wishes, profile)
        if file is not None:
            plan, planner = reckoned_anew(file, planner)
        else:
            nbytes = budget(ram or "auto")
            try:
                plan = planner.plan(nbytes)
            except DoesNotFit as error:
                if not as_json:
                    raise
                print_object(facts_of(planner.plan(planner.smallest_budget), planner, error))
                return error.exit_status
    if out is not None:
        from apportion.plan import write_plan

        write_plan(plan, out)
    print_object(facts_of(plan, planner)) if as_json else print_plan(plan, planner)
    if out is not None and not as_json:
        note(f"the plan is in {out}")
    return 0


def budget(text: str) -> int:
    """The bytes that `text` means; more than there are here, too, for a plan may be for another machine."""
    from apportion.hardware.budget import parse_budget
    from apportion.hardware.memory import memory_limits

    return parse_budget(text, memory_limits(), bounded=False)


def planner_for(checkpoint: OpenedFiles, name: str, wishes: Wishes, profile: Profile | None) -> Planner:
    """The planner of an opened model.

    Raises:
        BadFile, Unsupported: it is no model that we run.
        UsageError: a wish is none.
    """
    from apportion.core.settings import THREADS, get
    from apportion.kernels.native import available_threads
    from apportion.models import config_from_checkpoint
    from apportion.models.units import model_units
    from apportion.plan import Planner
    from apportion.plan.estimate import runtime_nbytes

    config = config_from_checkpoint(checkpoint)
    beside = beside_serving(config.vocab_size, wishes) if wishes.serve else 0
    return Planner(
        config=config,
        units=model_units(config, checkpoint.tensors),
        runtime_nbytes=runtime_nbytes(config, checkpoint.metadata) + beside,
        threads=wishes.threads or get(THREADS) or available_threads(),
        model=name,
        ctx=wishes.ctx,
        kv=wishes.kv,
        profile=profile,
        disk_rate=None if wishes.disk_bw is None else rate_of(wishes.disk_bw),
        concurrency=wishes.concurrency,
        hit_rates=hit_rates_of(wishes),
        prompt_tokens=wishes.prompt,
        policies=policies_of(wishes),
        prefill="chunked" if wishes.prefill_order == "chunked" else "layer_major",
    )


def beside_serving(vocab_size: int, wishes: Wishes) -> int:
    """Bytes that a server takes: its process, requests on their way, forms that answers are held to."""
    from apportion.engine.assembly import Serving
    from apportion.engine.shared_ram import server_nbytes

    serving = Serving(concurrency=wishes.concurrency, structured=True, observing=True)
    return server_nbytes(serving, vocab_size)


def reckoned_anew(file: Path, planner: Planner) -> tuple[Plan, Planner]:
    """The plan in a file with what follows from its choices, and the planner that has these."""
    from apportion.plan import read_plan
    from apportion.plan.adopt import adopted, planner_of

    plan = read_plan(file)
    return adopted(plan, planner), planner_of(plan, planner)


def policies_of(wishes: Wishes) -> PolicyNames:
    """The policies that were named.

    Raises:
        NotFound, UsageError: one is not known, or has no such parameter.
    """
    from apportion.plan import PolicyNames

    names = PolicyNames(
        wishes.placement,
        wishes.expert_cache,
        wishes.prediction,
        wishes.load_order,
        wishes.scheduler,
        wishes.retention,
    )
    names.require_known()
    return names


def rate_of(text: str) -> float:
    """Bytes a second.

    Raises:
        UsageError: it is no rate.
    """
    from apportion.core.units import parse_bytes

    try:
        rate = parse_bytes(text.strip().removesuffix("/s"))
    except UsageError as error:
        raise UsageError(f"not a rate: {text[:40]!r}", error.why, "write a rate such as 2GB/s") from None
    if not rate:
        raise UsageError("a disk that reads nothing cannot be planned with", hint="write 2GB/s", given=text)
    return float(rate)


def hit_rates_of(wishes: Wishes) -> HitRates | None:
    """The hit rates that were asked for; None leaves them to the planner."""
    from apportion.plan.hit_rate import stated

    if wishes.hit_rate is not None and wishes.curve is not None:
        raise UsageError("--hit-rate and --curve exclude each other", hint="leave one out")
    if wishes.hit_rate is not None:
        return stated(wishes.hit_rate)
    return None if wishes.curve is None else hit_rates_of_curve(wishes.curve)


def profile_for(path: Path) -> Profile | None:
    """What was measured on the device that a model lies on, or would: the hub's cache, for one on the hub."""
    from apportion.core.errors import ApportionError
    from apportion.hardware.profile import load_profile
    from apportion.hardware.storage import file_system

    try:
        return load_profile(file_system(path).device)
    except (ApportionError, OSError) as error:
        why = error.what if isinstance(error, ApportionError) else str(error)
        note(f"{why}: the forecast reckons with assumed rates; `apportion probe MODEL` measures")
        return None


def print_plan(plan: Plan, planner: Planner) -> None:
    out = console()
    out.print(table((plan.model, ""), list(choices(plan, planner))))
    out.print(bytes_table(plan))
    out.print(forecast_table(plan))
    out.print(f"Reckoned with {plan.forecast.basis}.")
    for line in plan.advice:
        out.print(f"Would help: {line}")


def choices(plan: Plan, planner: Planner) -> Iterator[tuple[str, str]]:
    """What the plan decides, in words."""
    from apportion.core.units import format_bytes

    yield (
        "budget",
        f"{format_bytes(plan.ram)}; {format_bytes(planner.smallest_budget)} is the smallest that does",
    )
    several = f", for {plan.concurrency} sequences each" if plan.concurrency > 1 else ""
    yield "context", f"{plan.ctx} tokens, KV as {plan.kv}{several}"
    yield "weights in memory", f"{plan.resident_fraction:.1%} of {format_bytes(planner.units.nbytes)}"
    counts = [layer.num_experts for layer in planner.units.layers]
    if any(counts):
        slots = sorted({slots for slots, count in zip(plan.expert_slots, counts, strict=True) if count})
        words = " to ".join(str(count) for count in dict.fromkeys((slots[0], slots[-1])))
        yield "experts in memory", f"{words} of {max(counts)} in each layer"
        yield "expected hit rate", f"{plan.hit_rate:.1%} ({plan.hit_rate_source})"
    if plan.streamed_layers:
        yield "layers that stream", f"{len(plan.streamed_layers)} of {len(counts)}"
    if plan.embedding == "rows":
        yield "embedding", "read from disk by row"
    yield "scheduler", f"{plan.scheduler}: {plan.scheduler_why}"
    if plan.max_running:
        yield "at once", f"{plan.max_running} of {plan.concurrency} requests: more are slower together"
    yield "read from disk per token", format_bytes(plan.disk_bytes_per_token)
    for why in planner.units.why_not:
        yield "stays in memory", why


def bytes_table(plan: Plan) -> Table:
    from apportion.core.units import format_bytes

    rows = [(kind.replace("_", " "), format_bytes(nbytes)) for kind, nbytes in plan.nbytes.items() if nbytes]
    rows += [("together", format_bytes(plan.total_nbytes))]
    return table(("memory", "bytes"), rows, numbers=(1,))


def forecast_table(plan: Plan) -> Table:
    from apportion.core.units import three_digits

    forecast = plan.forecast

    def row(words: str, unit: str, figure: Estimate) -> tuple[str, str, str]:
        spread = f"{three_digits(figure.low)} to {three_digits(figure.high)}"
        return words, f"{three_digits(figure.value)} {unit}", spread

    rows = [
        row("decode", "tok/s", forecast.decode_tok_s),
        row(f"prefill of {forecast.prompt_tokens}", "tok/s", forecast.prefill_tok_s),
        row(f"first token after {forecast.prompt_tokens}", "s", forecast.ttft_s),
        row("loading", "s", forecast.load_s),
    ]
    return table(("forecast", "", "as the disk drifts"), rows, numbers=(1, 2))
