"""Embed texts: a vector for each."""

from __future__ import annotations

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
from apportion.cli._output import print_object
from apportion.cli._progress import PhaseBars
from apportion.cli.run import described, read_prompt


@click.command()
@model_argument
@click.argument("texts", nargs=-1, metavar="TEXT...")
@click.option(
    "--pooling",
    type=click.Choice(["mean", "last"]),
    default="mean",
    show_default=True,
    help="Which hidden states make the vector: the mean of all tokens', or the last token's.",
)
@click.option("--normalize/--no-normalize", default=True, show_default=True, help="Make its length 1.")
@ctx_option
@budget_options
@engine_options
@json_option
def command(
    model: str,
    texts: tuple[str, ...],
    pooling: str,
    normalize: bool,
    ctx: int | None,
    budget: BudgetOptions,
    engine: EngineOptions,
    as_json: bool,
) -> int:
    """Embed texts: a vector for each.

    MODEL is a path, hf:org/name[:quant], pypi:name==version, or a built-in name such as smollm2. A text comes
    from standard input when it is `-`, or all of them are left out and one is piped. Each line of the output
    is a text's vector; vectors of one model compare by their product.
    """
    from apportion.engine.assembly import Serving

    asked = [read_prompt(text) for text in texts or (None,)]
    serving = Serving(concurrency=1, observing=True)
    with PhaseBars() as bars, load_llm(model, engine, budget, ctx, bars, serving) as llm:
        vectors = llm.embed(asked, "last" if pooling == "last" else "mean", normalize)
        if as_json:
            print_object(described(llm, {"pooling": pooling, "embeddings": vectors.tolist()}))
        else:
            for vector in vectors.tolist():
                click.echo(" ".join(f"{value:.6g}" for value in vector))
    return 0
