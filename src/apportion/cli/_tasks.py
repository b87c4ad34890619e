"""`apportion eval tasks` and `apportion eval export`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._loading import load_alone
from apportion.cli._options import (
    BudgetOptions,
    EngineOptions,
    budget_options,
    compose,
    engine_options,
    json_option,
    model_argument,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._tables import console, figures
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.tasks.items import Task
    from apportion.bench.tasks.judge import Judged, Share
    from apportion.engine.budget import Budget

LANES = 8
BUDGETED_CTX = 1024

task_files = compose(
    click.argument(
        "files",
        metavar="FILE...",
        nargs=-1,
        required=True,
        type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path),
    ),
    click.option("--limit", type=click.IntRange(min=1), help="Only the first items of each."),
)


@click.command()
@model_argument
@task_files
@click.option(
    "--ctx", type=click.IntRange(min=2), help="Most tokens of an item [default: any; 1024 under a budget]."
)
@click.option(
    "--together", type=click.IntRange(min=1), default=LANES, show_default=True, help="Items computed at once."
)
@click.option("--no-bos", is_flag=True, help="Texts do not begin with the model's token for that.")
@click.option(
    "--each",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what became of each item to this file.",
)
@budget_options
@engine_options
@json_option
def tasks(
    model: str,
    files: tuple[Path, ...],
    limit: int | None,
    ctx: int | None,
    together: int,
    no_bos: bool,
    each: Path | None,
    budget: BudgetOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Accuracy on tasks with answers to choose from.

    Each FILE holds items, one JSON object a line, plain or gzipped, in the shapes of the usual sets (ARC,
    PIQA, BoolQ, HellaSwag, MMLU, Winogrande, LAMBADA and others). The likeliest choice counts as the answer;
    the normalised accuracy goes by likelihood per character. Intervals are of 95% confidence.
    """
    from apportion.bench.tasks.items import read_task
    from apportion.bench.tasks.judge import judge
    from apportion.cli.eval import ops_of
    from apportion.engine.assembly import tokens_per_pass

    read = [read_task(path, limit) for path in files]
    with PhaseBars() as bars:
        loaded = load_alone(
            model, ops_of(engine), engine.offline, bars, beside_tasks(budget, ctx, together, engine)
        )
        terms: dict[str, Any] = {"kv": engine.kv, "ctx": ctx, "lanes": together}
        if loaded.apportioned is not None:
            plan = loaded.apportioned.plan
            at_once = tokens_per_pass(loaded, plan.ctx)
            terms = {"kv": plan.kv, "ctx": plan.ctx, "lanes": plan.concurrency, "tokens": at_once}
        found = [
            judge(
                loaded.model,
                loaded.tokenizer,
                task,
                **terms,
                bos=not no_bos,
                on_item=partial(show, bars, task),
            )
            for task in read
        ]
    if each is not None:
        write_each(each, found, read)
    if as_json:
        print_object({"model": loaded.name, "results": [facts(one) for one in found]})
    else:
        print_judged(loaded.name, found)


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@task_files
@json_option
def export(folder: Path, files: tuple[Path, ...], limit: int | None, as_json: bool) -> None:
    """Write tasks into FOLDER as `lm-eval` reads them.

    The same contexts and choices as `apportion eval tasks` compares: `lm-eval --include_path FOLDER --tasks
    NAME,..` runs them against a server.
    """
    from apportion.bench.tasks.export import export_task
    from apportion.bench.tasks.items import read_task

    folder.mkdir(parents=True, exist_ok=True)
    names = [export_task(read_task(path, limit), folder) for path in files]
    if as_json:
        print_object({"tasks": names})
    else:
        click.echo(",".join(names))


def beside_tasks(
    options: BudgetOptions, ctx: int | None, together: int, engine: EngineOptions
) -> Budget | None:
    """The budget, with room for items on their way together and for what looking choices up takes."""
    from apportion.bench.windows import SCORING_NBYTES
    from apportion.engine.assembly import Serving

    budget = options.budget(ctx or BUDGETED_CTX, engine.kv, Serving(concurrency=together))
    return None if budget is None else replace(budget, beside=SCORING_NBYTES)


def show(bars: PhaseBars, task: Task, done: int, total: int, accuracy: float) -> None:
    bars("eval", done, total, f"{task.name} {accuracy:.3f}")


def facts(one: Judged) -> dict[str, Any]:
    """The figures without the answers to single items."""
    figures = asdict(replace(one, answers=()))
    del figures["answers"]
    return figures


def write_each(path: Path, found: Sequence[Judged], read: Sequence[Task]) -> None:
    """One line of JSON for each item.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as file:
            for one, task in zip(found, read, strict=True):
                for number, (answer, item) in enumerate(zip(one.answers, task.items, strict=True)):
                    line = {"task": one.task, "item": number, "gold": item.gold} | asdict(answer)
                    file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written", error.strerror or "") from error


def print_judged(model: str, found: Sequence[Judged]) -> None:
    titles = ("task", "items", "accuracy", "95%", "normalised", "95%", "perplexity", "tok/s")
    rows = [
        (
            one.task,
            str(one.items),
            *share(one.accuracy),
            *share(one.accuracy_norm),
            "-" if one.perplexity is None else f"{one.perplexity:.2f}",
            f"{one.tokens / one.seconds:.0f}",
        )
        for one in found
    ]
    console().print(figures(titles, rows, words=("task",)))
    click.echo(f"{model}: {sum(one.items for one in found)} items, {sum(one.seconds for one in found):.1f} s")


def share(value: Share | None) -> tuple[str, str]:
    if value is None:
        return "-", "-"
    return f"{100 * value.value:.1f}%", f"{100 * value.low:.1f} to {100 * value.high:.1f}"
