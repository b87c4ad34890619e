"""Check that a model's files are whole and sound."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._failures import printable
from apportion.cli._options import json_option, model_argument, offline_option
from apportion.cli._output import note, print_object
from apportion.cli._progress import byte_bar
from apportion.core.errors import ApportionError, BadFile, LimitExceeded, Unsupported, UsageError

if TYPE_CHECKING:
    from apportion.formats.digests import Digests
    from apportion.formats.opened import OpenedFiles
    from apportion.sources import ResolvedModel

FOUND_SOMETHING = 1


@click.command()
@model_argument
@click.option("--sha256", metavar="HEX", help="What the SHA-256 digest of the model's only file should be.")
@click.option("--record", is_flag=True, help="Record digests of every tensor, for later checks.")
@click.option(
    "--digests",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where recorded digests lie [default: beside the model].",
)
@offline_option
@json_option
def command(
    model: str, sha256: str | None, record: bool, digests: Path | None, offline: bool, as_json: bool
) -> int:
    """Check that a model's files are whole and sound.

    Checks the layout, looks for numbers that are NaN or infinite, and compares SHA-256 digests, given or
    known from where the model came. Digests recorded with --record tell later which tensor has changed; a
    packed file carries its own. The exit status is 1 when something was found.
    """
    from apportion.core.direct_disk import DirectDisk
    from apportion.formats import open_checkpoint
    from apportion.sources import resolve

    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError("--sha256 is no SHA-256 digest", "64 hexadecimal digits are needed")
    with byte_bar(f"Pulling {model}") as report:
        found = resolve(model, offline=offline, on_progress=report)
    try:
        checkpoint = open_checkpoint(found.path, DirectDisk())
    except (BadFile, LimitExceeded, Unsupported) as error:
        outcome = unreadable(found, error)
    else:
        with checkpoint:
            expected = expected_sha256(found, checkpoint, sha256)
            outcome = check(found.name, checkpoint, expected, record, digests)
    print_object(outcome) if as_json else print_lines(outcome)
    return 0 if outcome["ok"] else FOUND_SOMETHING


def check(
    name: str, checkpoint: OpenedFiles, expected: dict[Path, str], record: bool, place: Path | None
) -> dict[str, Any]:
    """Verify, and record digests when that is wanted and nothing was found."""
    from apportion.formats.digests import record_path, write_record
    from apportion.formats.verify import examine

    recorded = None if record else recorded_digests(checkpoint, place)
    place = place or record_path(checkpoint)
    with byte_bar(f"Verifying {name}") as report:
        result = examine(
            checkpoint, sha256=expected, recorded=recorded, with_digests=record, on_progress=report
        )
    keep = record and result.digests is not None and not result.findings
    if keep:
        assert result.digests is not None
        write_record(place, result.digests)
    has_digests = recorded is not None or checkpoint.packed
    checks = ["layout", "numbers"] + ["sha256"] * bool(expected) + ["digests"] * has_digests
    return {
        "name": name,
        "path": checkpoint.files[0],
        "ok": not result.findings,
        "checks": checks,
        "tensors": len(checkpoint.tensors),
        "bytes": sum(checkpoint.file_sizes),
        "recorded": place if keep else None,
        "findings": [asdict(finding) for finding in result.findings],
    }


def unreadable(found: ResolvedModel, error: ApportionError) -> dict[str, Any]:
    """The outcome for a model that cannot even be opened."""
    from apportion.formats.verify import Finding

    finding = Finding(error.code, found.path.name, None, str(error), error.numbers)
    return {
        "name": found.name,
        "path": found.path,
        "ok": False,
        "checks": ["layout"],
        "recorded": None,
        "findings": [asdict(finding)],
    }


def expected_sha256(found: ResolvedModel, checkpoint: OpenedFiles, given: str | None) -> dict[Path, str]:
    """The digests that the user gave, or that came with the model from its source."""
    from apportion.sources import model_files

    if given is not None:
        if len(checkpoint.files) > 1:
            raise UsageError(
                "--sha256 is for a model of one file",
                f"this one has {len(checkpoint.files)}",
                "record the digests of all files with --record",
            )
        return {checkpoint.files[0]: given}
    folder = checkpoint.files[0].parent
    return {folder / file.name: file.sha256 for file in model_files(found, hashed=False) if file.sha256}


def recorded_digests(checkpoint: OpenedFiles, place: Path | None) -> Digests | None:
    """The record that the user names, or the one beside the model when there is one."""
    from apportion.formats.digests import read_record, record_path

    beside = record_path(checkpoint)
    return read_record(place or beside) if place or beside.exists() else None


def print_lines(outcome: dict[str, Any]) -> None:
    from apportion.core.units import format_bytes

    for finding in outcome["findings"]:
        where = finding["file"] + (f": {finding['tensor']}" if finding["tensor"] else "")
        click.echo(printable(f"{where}: {finding['what']} [{finding['kind']}]"))
    if outcome["ok"]:
        size = format_bytes(outcome["bytes"])
        done = ", ".join(outcome["checks"])
        click.echo(f"{printable(outcome['name'])} is sound: {outcome['tensors']} tensors, {size} ({done})")
    else:
        count = len(outcome["findings"])
        note(f"{count} finding{'s' if count > 1 else ''}")
    if outcome["recorded"]:
        note(f"digests recorded in {outcome['recorded']}")
