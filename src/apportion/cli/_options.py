"""Options that several verbs share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


def print_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from apportion import __version__

        click.echo(f"apportion {__version__}")
        ctx.exit()


version_option = click.Option(
    ["--version"],
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Show the version and exit.",
)

model_argument = click.argument("model", metavar="MODEL")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else there."
)

offline_option = click.option(
    "--offline",
    is_flag=True,
    help="Never use the network; fail if it would be needed [APPORTION_OFFLINE].",
)

text_file_argument = click.argument(
    "file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
)


def compose(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Several options as one decorator, shown in `--help` in the given order."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


engine_options = compose(
    click.option("--ctx", type=click.IntRange(min=1), help="Context length in tokens."),
    click.option("--threads", type=click.IntRange(min=1), help="Compute threads [default: all cores]."),
    click.option("--kv", type=click.Choice(["f16", "f32"]), default="f16", show_default=True,
                 help="Number type of the KV cache."),
    click.option("--exact", is_flag=True, help="Compute with float32 activations: slower, nothing rounded."),
    offline_option,
)  # fmt: skip
