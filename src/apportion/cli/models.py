"""List, show and remove the models on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apportion.cli._options import json_option, model_argument
from apportion.cli._output import note, print_object

if TYPE_CHECKING:
    from apportion.sources import CachedModel


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List, show and remove the models on this machine.

    Without a verb: list. Models lie in apportion's own cache (setting models_dir) and in the Hugging Face
    cache, which is read in place and never changed by `rm`.
    """
    if ctx.invoked_subcommand is None:
        print_list(as_json)


@command.command("list")
@json_option
@click.pass_context
def list_verb(ctx: click.Context, as_json: bool) -> None:
    """Everything that runs without a download."""
    print_list(as_json or wants_json(ctx))


@command.command()
@model_argument
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, as_json: bool) -> None:
    """One model's files, sizes, digests and origin."""
    from apportion.cli.pull import as_object, print_lines
    from apportion.sources import model_files, resolve

    found = resolve(model, offline=True)
    files = model_files(found)
    if as_json or wants_json(ctx):
        print_object(as_object(found, files))
    else:
        print_lines(found, files)


@command.command()
@model_argument
@json_option
@click.pass_context
def rm(ctx: click.Context, model: str, as_json: bool) -> None:
    """Delete a model from apportion's own cache."""
    from apportion.core.units import format_bytes
    from apportion.sources import remove_model

    freed = remove_model(model)
    if as_json or wants_json(ctx):
        print_object({"removed": model, "freed_bytes": freed})
    else:
        note(f"removed {model}, {format_bytes(freed)} freed")


def wants_json(ctx: click.Context) -> bool:
    """`apportion models --json list` means the same as `apportion models list --json`."""
    return ctx.parent is not None and bool(ctx.parent.params.get("as_json"))


def print_list(as_json: bool) -> None:
    from apportion.sources import ALIASES, Store, cached_models

    store = Store()
    models = cached_models(store)
    here = {model.name for model in models}
    absent = [name for name in ALIASES if name not in here]
    leftovers = list(store.leftovers())
    if as_json:
        print_object(
            {
                "models": [row(model) for model in models],
                "not_pulled": [{"name": name, "bytes": ALIASES[name].nbytes} for name in absent],
                "interrupted": [{"origin": str(package), "bytes": n} for package, n in leftovers],
                "models_dir": store.root,
            }
        )
        return
    from apportion.core.units import format_bytes

    for line in table(models):
        click.echo(line)
    if not models:
        note(f"no models here yet; the cache is {store.root}")
    for name in absent:
        note(f"not pulled: {name} ({format_bytes(ALIASES[name].nbytes)}); `apportion pull {name}`")
    for package, nbytes in leftovers:
        note(f"interrupted: {package} ({format_bytes(nbytes)}): pull it again, or remove it with `models rm`")


def row(model: CachedModel) -> dict[str, object]:
    return {
        "name": model.name,
        "origin": model.origin,
        "kind": model.kind,
        "bytes": model.nbytes,
        "path": model.path,
        "kept_by": model.kept_by,
    }


def table(models: list[CachedModel]) -> list[str]:
    """Aligned columns: name, size, origin, path."""
    from apportion.core.units import format_bytes

    cells = [(model.name, format_bytes(model.nbytes), model.origin, str(model.path)) for model in models]
    widths = [max((len(line[i]) for line in cells), default=0) for i in range(3)]
    return [
        f"{name:<{widths[0]}}  {size:>{widths[1]}}  {origin:<{widths[2]}}  {path}"
        for name, size, origin, path in cells
    ]
