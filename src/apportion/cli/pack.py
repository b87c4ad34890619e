"""Rewrite a model so that a budget reads it fastest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import json_option, model_argument, offline_option
from apportion.cli._output import note, print_object
from apportion.cli._progress import byte_bar

if TYPE_CHECKING:
    from apportion.compress import Packed


@click.command()
@model_argument
@click.argument("out", metavar="OUT", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--ram",
    metavar="SIZE|PERCENT|auto",
    help="What the whole process may take, as 512MiB or 50% [default: what is useful, which is little].",
)
@click.option("--force", is_flag=True, help="Replace OUT if it is there.")
@offline_option
@json_option
def command(model: str, out: Path, ram: str | None, force: bool, offline: bool, as_json: bool) -> None:
    """Rewrite a model so that a budget reads it fastest.

    OUT holds the same numbers. Each expert is one aligned stretch, so is the dense part of each layer, and
    matrices lie in the order in which they are computed on: what is read needs no rearranging. The file is
    complete in itself; apportion runs it like any other, other programs refuse it. A run that was interrupted
    goes on where it ended when it is started again.
    """
    from apportion.compress import pack

    with byte_bar(f"Packing {model}") as report:
        packed = pack(model, out, ram=ram, force=force, offline=offline, on_progress=report)
    if as_json:
        print_object(as_object(packed))
    else:
        print_lines(packed)


def as_object(packed: Packed) -> dict[str, Any]:
    from apportion.core.resident import peak_rss_bytes

    return {
        "path": packed.path,
        "bytes": packed.nbytes,
        "resumed_bytes": packed.resumed_nbytes,
        "seconds": packed.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
        "notes": list(packed.notes),
    }


def print_lines(packed: Packed) -> None:
    from apportion.core.resident import peak_rss_bytes
    from apportion.core.units import format_bytes, format_duration

    for text in packed.notes:
        note(f"note: {text}")
    size, peak = format_bytes(packed.nbytes), format_bytes(peak_rss_bytes())
    resumed = f", {format_bytes(packed.resumed_nbytes)} of it found" if packed.resumed_nbytes else ""
    note(f"{size} in {format_duration(packed.seconds)}{resumed} | peak {peak}")
    click.echo(str(packed.path))
