"""Show every setting, its value and where that comes from."""

from __future__ import annotations

from typing import Any

import click

from apportion.cli._options import json_option
from apportion.cli._output import note, print_object
from apportion.cli._tables import console, table
from apportion.core import settings
from apportion.core.settings import Origin, Value


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show every setting, its value and where that comes from.

    A flag wins over the environment (APPORTION_NAME), the environment over apportion.toml in the current
    folder, that over config.toml in your configuration folder, and that over the default.
    """
    if ctx.invoked_subcommand is None:
        _show(as_json)


@command.command()
@json_option
@click.pass_context
def show(ctx: click.Context, as_json: bool) -> None:
    """The same as `apportion config` alone."""
    parent = ctx.parent
    _show(as_json or (parent is not None and parent.params["as_json"]))


def _show(as_json: bool) -> None:
    values = [settings.locate(setting) for setting in settings.SETTINGS.values()]
    strays = settings.unknown_variables()
    if as_json:
        print_object(_report(values, strays))
        return
    _print_table(values)
    for name, meant in strays.items():
        note(f"note: {name} is set but is no setting" + (f"; did you mean {meant}?" if meant else ""))


def _report(values: list[Value[Any]], strays: dict[str, str | None]) -> dict[str, object]:
    return {
        "settings": {
            item.setting.name: {
                "value": item.value,
                "origin": item.origin,
                "place": item.place,
                "variable": item.setting.variable,
                "sentence": item.setting.sentence,
            }
            for item in values
        },
        "files": [{"path": str(path), "exists": path.is_file()} for path in settings.files()],
        "unknown_variables": list(strays),
    }


def _print_table(values: list[Value[Any]]) -> None:
    rows = []
    for item in values:
        origin = item.origin if item.origin is Origin.DEFAULT else f"{item.origin}: {item.place}"
        rows.append((item.setting.name, _shown(item.value), origin, item.setting.sentence))
    console().print(table(("setting", "value", "origin", "what it does"), rows))
    for path in settings.files():
        click.echo(f"{'read' if path.is_file() else 'not there'}: {path}")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
