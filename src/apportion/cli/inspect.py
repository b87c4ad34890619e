"""Show what is in a model, from its headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import json_option, model_argument, offline_option
from apportion.cli._output import print_object
from apportion.cli._progress import byte_bar
from apportion.cli._tables import console, table
from apportion.core.errors import ApportionError

if TYPE_CHECKING:
    from rich.table import Table

    from apportion.formats.opened import OpenedFiles

SHOWN_ITEMS = 6  # of an array
SHOWN_CHARS = 160  # of a text


@click.command()
@model_argument
@click.option("--tensors", is_flag=True, help="List every tensor.")
@click.option("--metadata", is_flag=True, help="List the metadata (GGUF) or configuration (folder).")
@offline_option
@json_option
def command(model: str, tensors: bool, metadata: bool, offline: bool, as_json: bool) -> None:
    """Show what is in a model, from its headers alone.

    Tells its tensors by format and bytes, the bytes of weights that one decoded token reads, and the bytes
    that it adds to the KV cache. With --json, tensors and metadata are always there, long arrays abbreviated.
    """
    from apportion.formats import open_checkpoint
    from apportion.sources import resolve

    with byte_bar(f"Pulling {model}") as report:
        found = resolve(model, offline=offline, on_progress=report)
    with open_checkpoint(found.path) as checkpoint:
        facts = {"name": found.name, **inspect(checkpoint)}
    if as_json:
        print_object(facts)
    else:
        print_tables(facts, tensors=tensors, metadata=metadata)


def inspect(checkpoint: OpenedFiles) -> dict[str, Any]:
    """What the headers say, ready for JSON."""
    infos = checkpoint.tensors.values()
    by_format: dict[str, int] = {}
    for info in infos:
        by_format[info.format.name] = by_format.get(info.format.name, 0) + info.nbytes
    return {
        "kind": checkpoint.kind,
        "packed": checkpoint.packed,
        "files": [path.name for path in checkpoint.files],
        "file_bytes": sum(checkpoint.file_sizes),
        "parameters": sum(info.num_elements for info in infos),
        "bytes_by_format": dict(sorted(by_format.items(), key=lambda item: -item[1])),
        **costs(checkpoint),
        "tensors": [
            {"name": info.name, "format": info.format.name, "shape": list(info.shape), "bytes": info.nbytes}
            for info in infos
        ],
        "metadata": {key: abbreviated(value) for key, value in checkpoint.metadata.items()},
    }


def costs(checkpoint: OpenedFiles) -> dict[str, Any]:
    """What a token costs; None, and the reason in `note`, for a model that this version cannot run."""
    from apportion.models import bytes_per_token, config_from_checkpoint, kv_bytes_per_token

    facts: dict[str, Any] = {
        "architecture": checkpoint.metadata.get(
            "general.architecture", checkpoint.metadata.get("model_type")
        ),
        "context_length": None,
        "layers": None,
        "bytes_per_token": None,
        "kv_bytes_per_token": None,
        "note": None,
    }
    try:
        config = config_from_checkpoint(checkpoint)
        facts["context_length"], facts["layers"] = config.context_length, config.num_layers
        facts["kv_bytes_per_token"] = kv_bytes_per_token(config)
        if checkpoint.tensors:
            facts["bytes_per_token"] = bytes_per_token(config, checkpoint.tensors)
        else:
            facts["note"] = "it holds no tensors: a vocabulary alone"
    except ApportionError as error:
        facts["note"] = str(error)
    return facts


def abbreviated(value: Any) -> Any:
    """A metadata value for JSON: long arrays as length and first items, what JSON lacks as text."""
    if hasattr(value, "tolist"):
        size = getattr(value, "size", 1)
        value = value[:SHOWN_ITEMS].tolist() if size > SHOWN_ITEMS else value.tolist()
        return {"length": size, "first": abbreviated(value)} if size > SHOWN_ITEMS else abbreviated(value)
    if isinstance(value, list):
        items = [abbreviated(item) for item in value[:SHOWN_ITEMS]]
        return items if len(value) <= SHOWN_ITEMS else {"length": len(value), "first": items}
    if isinstance(value, Mapping):
        return {str(key): abbreviated(item) for key, item in value.items()}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def print_tables(facts: dict[str, Any], *, tensors: bool, metadata: bool) -> None:
    out = console()
    out.print(summary_table(facts))
    if facts["bytes_by_format"]:
        out.print(format_table(facts["bytes_by_format"]))
    if metadata:
        rows = [(key, one_line(value)) for key, value in facts["metadata"].items()]
        out.print(table(("metadata", "value"), rows))
    if tensors:
        out.print(tensor_table(facts["tensors"]))


def summary_table(facts: dict[str, Any]) -> Table:
    from apportion.core.units import format_bytes

    def size(nbytes: int | None) -> str:
        return "unknown" if nbytes is None else format_bytes(nbytes)

    packed = "packed " if facts["packed"] else ""
    rows = [
        ("architecture", facts["architecture"] or "unknown"),
        ("files", f"{len(facts['files'])} {packed}{facts['kind']}, {format_bytes(facts['file_bytes'])}"),
        ("parameters", f"{facts['parameters']:,} in {len(facts['tensors'])} tensors"),
        ("layers", facts["layers"] or "unknown"),
        ("context length", facts["context_length"] or "unknown"),
        ("weights read per token", size(facts["bytes_per_token"])),
        ("KV cache per token", f"{size(facts['kv_bytes_per_token'])} (f16)"),
    ]
    if facts["note"]:
        rows.append(("note", facts["note"]))
    return table((facts["name"], ""), rows)


def format_table(by_format: dict[str, int]) -> Table:
    from apportion.core.units import format_bytes

    total = sum(by_format.values()) or 1
    rows = [(name, format_bytes(nbytes), f"{nbytes / total:.1%}") for name, nbytes in by_format.items()]
    return table(("format", "bytes", "share"), rows, numbers=(1, 2))


def tensor_table(tensors: list[dict[str, Any]]) -> Table:
    rows = [(t["name"], t["format"], " x ".join(map(str, t["shape"])), f"{t['bytes']:,}") for t in tensors]
    return table(("tensor", "format", "shape", "bytes"), rows, numbers=(3,))


def one_line(value: Any) -> str:
    """An abbreviated metadata value as short text."""
    if isinstance(value, dict) and value.keys() == {"length", "first"}:
        return f"{value['length']:,} items: {', '.join(map(repr, value['first']))}, ..."
    text = str(value).replace("\n", "\\n")
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}... ({len(text):,} characters)"
