"""Judge a model: perplexity, divergence from another model or setting, accuracy on tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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
    text_file_argument,
)
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli._tasks import export, tasks
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.divergence import Divergence, Side
    from apportion.bench.perplexity import Perplexity
    from apportion.engine.budget import Budget
    from apportion.engine.loading import LoadedModel
    from apportion.kernels import Ops
    from apportion.kernels.ops import Ints
    from apportion.text.tokenizer import Tokenizer


@click.group(subcommand_metavar="perplexity|kld|tasks|export ...")
def command() -> None:
    """Judge a model: perplexity, divergence from another model or setting, accuracy on tasks.

    Texts are cut as llama.cpp's perplexity tool cuts them, so that figures compare: windows of --ctx tokens,
    the second half of each scored.
    """


command.add_command(tasks)
command.add_command(export)

window_options = compose(
    click.option(
        "--ctx", type=click.IntRange(min=4), default=512, show_default=True, help="Tokens per window."
    ),
    click.option("--limit-windows", type=click.IntRange(min=1), help="Score only the first windows."),
)


@command.command()
@model_argument
@text_file_argument
@window_options
@click.option("--reference", is_flag=True, help="Compute with the NumPy reference: very slow.")
@budget_options
@engine_options
@json_option
def perplexity(
    model: str,
    file: Path,
    ctx: int,
    limit_windows: int | None,
    reference: bool,
    budget: BudgetOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Perplexity on a text file; lower is better."""
    from apportion.bench.perplexity import perplexity as score
    from apportion.bench.windows import text_windows

    text = read_text(file)
    with PhaseBars() as bars:
        allowed = beside_scoring(budget, ctx, engine)
        loaded = load_alone(model, ops_of(engine, reference), engine.offline, bars, allowed)
        windows = text_windows(text, loaded.tokenizer, ctx, limit_windows)
        on_window = partial(show_window, bars, "perplexity")
        result = score(loaded.model, windows, bos_of(loaded.tokenizer), kv=engine.kv, on_window=on_window)
    if as_json:
        print_object({"model": loaded.name} | asdict(result))
    else:
        click.echo(perplexity_line(result))


def beside_scoring(options: BudgetOptions, ctx: int, engine: EngineOptions) -> Budget | None:
    """The budget, with room left for what scoring itself takes."""
    from apportion.bench.windows import SCORING_NBYTES

    budget = options.budget(ctx, engine.kv)
    return None if budget is None else replace(budget, beside=SCORING_NBYTES)


@command.command()
@model_argument
@text_file_argument
@window_options
@click.option("--against", metavar="MODEL", help="The reference model [default: MODEL itself].")
@click.option(
    "--setting",
    type=click.Choice(["exact", "kv", "all"]),
    help="Judge this setting's default against its lossless value: float activations, an f32 KV cache, or "
    "both [default without --against: all].",
)
@budget_options
@engine_options
@json_option
def kld(
    model: str,
    file: Path,
    ctx: int,
    limit_windows: int | None,
    against: str | None,
    setting: Literal["exact", "kv", "all"] | None,
    budget: BudgetOptions,
    engine: EngineOptions,
    as_json: bool,
) -> None:
    """Kullback-Leibler divergence of MODEL's predictions from a reference's on a text file; 0 is equal.

    The reference is another model (--against, computed with the same options), or the same one with a
    setting at its lossless value (--setting).
    """
    from apportion.bench.divergence import divergence
    from apportion.bench.windows import text_windows

    if against and setting:
        raise UsageError("--against and --setting exclude each other")
    if against and (budget.ram or budget.plan):
        raise UsageError(
            "a budget cannot be divided among two models", hint="judge a setting, or leave --ram out"
        )
    text = read_text(file)
    with PhaseBars() as bars:
        judged = load_alone(model, ops_of(engine), engine.offline, bars, beside_scoring(budget, ctx, engine))
        base = load_alone(against, ops_of(engine), engine.offline, bars) if against else judged
        windows = text_windows(text, judged.tokenizer, ctx, limit_windows)
        if against:
            require_same_tokens(windows, text_windows(text, base.tokenizer, ctx, limit_windows))
        sides = sides_of(judged, base, setting or (None if against else "all"), engine)
        result = divergence(*sides, windows, bos_of(judged.tokenizer), partial(show_window, bars, "KLD"))
    names = {"model": judged.name, "against": base.name, "setting": setting or (None if against else "all")}
    if as_json:
        print_object(names | asdict(result))
    else:
        print_divergence(result)


def read_text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not UTF-8 text", error.reason, offset=error.start) from error


def ops_of(engine: EngineOptions, reference: bool = False) -> Ops:
    from apportion.core.settings import THREADS, get
    from apportion.kernels import NativeOps, ReferenceOps

    if reference:
        return ReferenceOps()
    return NativeOps(threads=engine.threads or get(THREADS), exact=engine.exact)


def bos_of(tokenizer: Tokenizer) -> int | None:
    return tokenizer.bos_id if tokenizer.adds_bos else None


def require_same_tokens(ours: Sequence[Ints], theirs: Sequence[Ints]) -> None:
    if len(ours) != len(theirs) or any((a != b).any() for a, b in zip(ours, theirs, strict=True)):
        raise UsageError(
            "the two models tokenize the text differently",
            "predictions over different tokens cannot be compared",
            "compare each with its own reference, by --setting or by perplexity",
        )


def sides_of(
    judged: LoadedModel, base: LoadedModel, setting: str | None, engine: EngineOptions
) -> tuple[Side, Side]:
    """The two that are compared; a changed setting shares the judged model's weights."""

    from apportion.bench.divergence import Side

    ours = Side(judged.model, engine.kv)
    model, kv = base.model, ours.kv
    if setting in ("exact", "all"):
        model = model.computed_by(ops_of(replace(engine, exact=True)))
    if setting in ("kv", "all"):
        kv = "f32"
    return ours, Side(model, kv)


def show_window(bars: PhaseBars, name: str, done: int, total: int, value: float) -> None:
    bars("eval", done, total, f"{name} {value:.4f}")


def perplexity_line(result: Perplexity) -> str:
    return (
        f"perplexity {result.perplexity:.4f} ± {result.error:.4f}  "
        f"({result.tokens} tokens, ctx {result.ctx}, {result.windows} windows, {result.seconds:.1f} s)"
    )


def print_divergence(result: Divergence) -> None:
    rows = {
        "mean KLD": f"{result.mean_kld:.6f} ± {result.mean_kld_error:.6f}",
        "median KLD": f"{result.median_kld:.6f}",
        **{f"{name}% KLD": f"{value:.6f}" for name, value in result.percentiles.items()},
        "max KLD": f"{result.max_kld:.6f}",
        "same top token": f"{100 * result.same_top:.3f}%",
        "RMS Δp": f"{100 * result.rms_probability_difference:.4f}%",
        "mean Δp": f"{100 * result.mean_probability_difference:+.4f}%",
        "perplexity": f"{result.perplexity:.4f}, reference {result.reference_perplexity:.4f}, "
        f"ratio {result.perplexity_ratio:.6f}",
        "scored": f"{result.tokens} tokens, ctx {result.ctx}, {result.seconds:.1f} s",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        click.echo(f"{name:<{width}}  {value}")
