"""Replay a trace of requests, or seeds full of faults, on the engine without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import json_option
from apportion.cli._output import note, print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._tables import console, figures
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.simulate.serving.cost import Fit, StepCost
    from apportion.simulate.serving.replay import Setting
    from apportion.simulate.serving.traces import TracedRequest

DRAWN_LIMIT = 500
positive = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("trace", required=False, type=click.Path(path_type=Path))
@click.option("--scheduler", default="fcfs,chunked", show_default=True, help="One line for each of these.")
@click.option("--steps", type=click.Path(dir_okay=False, path_type=Path), help="A log of measured steps.")
@click.option(
    "--blocks",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    help="KV blocks of 32 tokens.",
)
@click.option("--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Run at once.")
@click.option(
    "--retention", default="lru", show_default=True, help="What is kept goes by it; none keeps nothing."
)
@click.option("--streams", is_flag=True, help="Weights come and go.")
@click.option("--interval", type=positive, default=1.0, show_default=True, help="Times as far apart.")
@click.option("--length", type=positive, default=1.0, show_default=True, help="Times as many tokens.")
@click.option(
    "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Only each so-many-th request."
)
@click.option("--limit", type=click.IntRange(min=1), help="Only the first requests.")
@click.option("--start", type=click.FloatRange(min=0), default=0.0, help="Begin so many seconds into it.")
@click.option("--rate", type=positive, default=1.0, show_default=True, help="Drawn requests a second.")
@click.option("--burst", type=click.IntRange(min=1), default=1, show_default=True, help="Drawn at once.")
@click.option("--prompt", type=click.IntRange(min=1), default=256, show_default=True, help="Drawn tokens.")
@click.option("--output", type=click.IntRange(min=1), default=64, show_default=True, help="Drawn tokens.")
@click.option("--ttft", type=positive, default=2.0, show_default=True, help="Seconds to the first token.")
@click.option("--tpot", type=positive, default=0.2, show_default=True, help="Seconds per further token.")
@click.option("--seed", type=click.IntRange(min=0), help="Carry out one seed full of faults, or draw by it.")
@click.option("--seeds", type=click.IntRange(min=1), help="Carry out so many, from --seed on.")
@json_option
def command(
    trace: Path | None,
    scheduler: str,
    steps: Path | None,
    seed: int | None,
    seeds: int | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Replay a trace of requests, or seeds full of faults, on the engine without a model.

    TRACE is a .csv of the Azure traces of 2023, a .jsonl of Mooncake's (both may end in .gz), or the folder
    of a ServeGen model. Requests come when they came, whatever becomes of those before. How long a step takes
    is fitted to --steps, a log of an engine's; without one the figures of SmolLM2 135M on two processor cores
    stand in. A request is served well that meets --ttft and --tpot; goodput counts those.

    With --rate, --prompt or --output and no TRACE requests are drawn. Otherwise, without a TRACE, --seed and
    --seeds carry out made-up lives of an engine, full of errors, cancelled requests and restarts, and check
    after every step that nothing is lost, leaked or wrong; the status is 1 if something is.
    """
    drawn = any(given(name) for name in ("rate", "burst", "prompt", "output"))
    if trace is None and not drawn and (seed is not None or seeds is not None):
        return carry_out(seed or 0, seeds or 1, as_json)
    if trace is None and not drawn:
        raise UsageError("there is nothing to simulate", hint="give a TRACE, --rate or --seed")
    if trace is not None and drawn:
        raise UsageError("requests come from a trace or are drawn", hint="leave out --rate and its like")
    compare(trace, scheduler.split(","), steps, seed or 0, options, as_json)
    return 0


def given(name: str) -> bool:
    """Whether an option stands on the command line."""
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


# --- seeds ---


def carry_out(first: int, count: int, as_json: bool) -> int:
    """Seeds in turn; 1 if one of them broke a rule."""
    from apportion.simulate.serving.judge import Violation
    from apportion.simulate.serving.run import Outcome, simulate
    from apportion.simulate.serving.scenario import scenario_of

    total: dict[str, float] = dict.fromkeys(asdict(Outcome()), 0)
    failed: dict[int, str] = {}
    with PhaseBars() as bars:
        for seed in range(first, first + count):
            try:
                outcome = asdict(simulate(scenario_of(seed)))
            except Violation as violation:
                failed[seed] = str(violation)
                note(failed[seed])
            else:
                total = {name: total[name] + value for name, value in outcome.items()}
            bars("seeds", seed - first + 1, count)
    if as_json:
        print_object({"first_seed": first, "seeds": count, "failed": failed, **total})
    else:
        what = ", ".join(f"{name.replace('_', ' ')} {value:,.0f}" for name, value in total.items())
        click.echo(f"{count - len(failed)} of {count} seeds kept every rule: {what}")
    return 1 if failed else 0


# --- traces ---


def compare(
    trace: Path | None,
    schedulers: list[str],
    steps: Path | None,
    seed: int,
    options: dict[str, Any],
    as_json: bool,
) -> None:
    """One replay for each scheduler, and what came of them side by side."""
    from apportion.simulate.serving.replay import replay
    from apportion.simulate.serving.report import Limits, report

    cost, num_layers, fitted = cost_of(steps)
    limits = Limits(options["ttft"], options["tpot"])
    rows = []
    for name in schedulers:
        setting = setting_of(name.strip(), num_layers, options)
        replayed = replay(
            requests_of(trace, seed, options), setting, lambda items: cost.seconds(items, num_layers)
        )
        rows.append({"scheduler": name.strip(), **report(replayed, limits)})
    said = fitted.sentence() if fitted else "step times of SmolLM2 135M on two cores, not of this machine"
    facts = {
        "trace": None if trace is None else trace.name,
        "interval": options["interval"],
        "length": options["length"],
        "every": options["every"],
        "limits": asdict(limits),
        "cost": cost.to_dict(),
        "fit": None if fitted is None else without_residuals(fitted),
        "rows": rows,
    }
    print_object(facts) if as_json else print_rows(rows, limits.ttft_s, limits.tpot_s, said)


def cost_of(steps: Path | None) -> tuple[StepCost, int, Fit | None]:
    """How long steps take, the model's layers, and how well that fits what was measured."""
    from apportion.engine.step_log import StepLog
    from apportion.simulate.serving.cost import SMOLLM2, SMOLLM2_LAYERS, fit

    if steps is None:
        return SMOLLM2, SMOLLM2_LAYERS, None
    log = StepLog.read(steps)
    fitted = fit(log)
    return fitted.cost, log.num_layers, fitted


def without_residuals(fitted: Fit) -> dict[str, Any]:
    facts = asdict(fitted)
    del facts["residuals"], facts["cost"]
    return facts


def setting_of(scheduler: str, num_layers: int, options: dict[str, Any]) -> Setting:
    from apportion.policies import RETENTIONS, SCHEDULERS
    from apportion.simulate.serving.replay import Setting

    SCHEDULERS.choose(scheduler)
    retention = "" if options["retention"] == "none" else options["retention"]
    if retention:
        RETENTIONS.choose(retention)
    return Setting(
        scheduler,
        options["blocks"],
        num_layers,
        options["concurrency"],
        retention=retention,
        streams=options["streams"],
    )


def requests_of(trace: Path | None, seed: int, options: dict[str, Any]) -> Iterator[TracedRequest]:
    """The requests to replay, from the beginning."""
    from apportion.simulate.serving.traces import read_trace, scaled
    from apportion.simulate.serving.traces.synthetic import drawn

    found: Iterable[TracedRequest]
    if trace is None:
        found = drawn(
            options["rate"], options["prompt"], options["output"], burst=options["burst"], seed=seed
        )
    else:
        found = read_trace(trace, seed=seed, start_s=options["start"])
    limit = options["limit"] or (DRAWN_LIMIT if trace is None else None)
    factors = {name: options[name] for name in ("interval", "length", "every")}
    return islice(scaled(found, **factors), limit)


TITLES = (
    "scheduler", "TTFT s", "TPOT ms", "longest gap ms", "well", "goodput/s", "tok/s", "yields", "peak blocks",
    "reused",
)  # fmt: skip


def cells(row: dict[str, Any]) -> list[str]:
    return [
        row["scheduler"],
        spread(row["ttft_s"], 1, 2),
        spread(row["tpot_s"], 1e3, 0),
        spread(row["longest_gap_s"], 1e3, 0),
        f"{row['well_served']:.0%}",
        f"{row['goodput_per_s']:.3g}",
        f"{row['output_tok_s']:.1f}",
        str(row["yields"]),
        str(row["peak_blocks"]),
        f"{row['reused_tokens'] / max(row['prompt_tokens'], 1):.0%}",
    ]


def print_rows(rows: list[dict[str, Any]], ttft_s: float, tpot_s: float, fitted: str) -> None:
    console().print(figures(TITLES, map(cells, rows), words=("scheduler",)))
    first = rows[0]
    click.echo(
        f"{first['requests']} requests served, {first['refused']} too long; times at 50/90/99 of 100 "
        f"requests; well: TTFT up to {ttft_s:g} s and TPOT up to {tpot_s * 1e3:g} ms"
    )
    click.echo(fitted)


def spread(times: dict[str, float], factor: float, digits: int) -> str:
    return "/".join(f"{times[name] * factor:.{digits}f}" for name in ("p50", "p90", "p99"))
