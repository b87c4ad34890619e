"""Answer a file of requests, many at once, and go on where it stopped."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from apportion.cli._loading import load_llm
from apportion.cli._options import (
    BudgetOptions,
    EngineOptions,
    budget_options,
    ctx_option,
    engine_options,
    json_option,
    model_argument,
)
from apportion.cli._output import note, print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._serving import ServingOptions, batch_options

if TYPE_CHECKING:
    from apportion.engine.batch import BatchReport


@click.command()
@model_argument
@click.argument(
    "source",
    metavar="IN.jsonl",
    type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
)
@click.argument("target", metavar="OUT.jsonl", type=click.Path(dir_okay=False, path_type=Path))
@ctx_option
@budget_options
@batch_options
@engine_options
@json_option
def command(
    model: str,
    source: Path,
    target: Path,
    ctx: int | None,
    budget: BudgetOptions,
    serving: ServingOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Answer a file of requests, many at once, and go on where it stopped.

    IN.jsonl holds one request a line in OpenAI's batch format; OUT.jsonl gets one line for each, an answer or
    an error. Run again after Ctrl-C, a crash or a power cut, it answers only what is not answered yet.
    """
    from apportion.engine.batch import has_forms, run_batch

    seen: list[BatchReport] = []

    def tell(report: BatchReport) -> None:
        seen[:] = [report]
        bars("batch", report.done, report.lines, f"{report.failed} failed" if report.failed else "")

    with (
        PhaseBars() as bars,
        load_llm(
            model, engine, budget, ctx, bars, serving.serving(budget.ram is not None and has_forms(source))
        ) as llm,
    ):
        try:
            report = run_batch(llm, source, target, on_progress=tell)
        except KeyboardInterrupt:
            bars.close()
            if seen:
                note(f"{seen[0].done} of {seen[0].lines} lines are done; the same command goes on from here")
            raise
    if as_json:
        print_object({"model": llm.name} | asdict(report))
    else:
        note(summary(report))


def summary(report: BatchReport) -> str:
    """What a run did, on one line."""
    rate = report.output_tokens / report.seconds if report.seconds else 0.0
    skipped = f"{report.skipped} done before, " if report.skipped else ""
    return (
        f"{report.lines} lines: {skipped}{report.answered} answered, {report.failed} failed | "
        f"prompts {report.prompt_tokens} tokens ({report.cached_tokens} shared) | "
        f"answers {report.output_tokens} tokens, {rate:.1f} tok/s | {report.seconds:.1f} s"
    )
