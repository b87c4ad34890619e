"""Plans as files: JSON, or TOML where the name ends in `.toml`. A person may edit them, so what is read is
checked key by key, and a mistake is named with the key that it is in.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from apportion.core.claim import Kind
from apportion.core.errors import DiskFault, NotFound, UsageError
from apportion.core.units import format_bytes
from apportion.formats.bounded_json import parse_json_bounded
from apportion.kernels.kv_codecs import layer_codecs
from apportion.plan.plan import (
    VERSION,
    Embedding,
    Estimate,
    Forecast,
    Plan,
    PolicyNames,
    PrefillOrder,
)
from apportion.plan.table import CheckedTable, no_such

MAX_FILE_NBYTES = 1 << 20


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan, in place of what is there.

    Raises:
        DiskFault: it cannot be written.
    """
    told = plan.to_dict()
    is_toml = path.suffix.lower() == ".toml"
    text = _toml(told) if is_toml else json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise DiskFault(f"cannot write the plan {path}", error.strerror or str(error)) from error


def read_plan(path: Path) -> Plan:
    """The plan in a file. Sizes may be written as text (`"4GiB"`).

    Raises:
        NotFound: there is no such file.
        DiskFault: it cannot be read.
        BadFile: it is no plan: not JSON or TOML, a key is missing, unknown or of another type.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_NBYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"no plan {path}", "there is no such file") from None
    except OSError as error:
        raise DiskFault(f"cannot read the plan {path}", error.strerror or str(error)) from error
    if len(data) > MAX_FILE_NBYTES:
        raise no_such("plan", path.name, "it is too large", limit=MAX_FILE_NBYTES)
    return plan_from_dict(_parsed(data, path), path.name)


def plan_from_dict(told: object, what: str = "the plan") -> Plan:
    """The plan that `Plan.to_dict` told, checked. `what` names it in errors.

    Raises:
        BadFile: it is none.
    """
    table = CheckedTable(told, what)
    version = table.count("version")
    if version != VERSION:
        raise no_such("plan", what, f"it has version {version}, this program reads version {VERSION}")
    plan = Plan(
        model=table.text("model"),
        ram=table.size("ram"),
        ctx=table.count("ctx", 1),
        kv=table.text("kv"),
        threads=table.count("threads", 1),
        concurrency=table.count("concurrency", 1),
        tokens_per_pass=table.count("tokens_per_pass", 1),
        prefill=cast(PrefillOrder, table.word("prefill", get_args(PrefillOrder))),
        embedding=cast(Embedding, table.word("embedding", get_args(Embedding))),
        expert_slots=table.counts("expert_slots"),
        streamed_layers=table.counts("streamed_layers"),
        stream_buffers=table.count("stream_buffers"),
        resident_fraction=table.share("resident_fraction"),
        hit_rate=table.share("hit_rate"),
        hit_rate_source=table.text("hit_rate_source"),
        disk_bytes_per_token=table.size("disk_bytes_per_token"),
        advice=table.texts("advice"),
        policies=_policies(table.table("policies")),
        scheduler=table.text("scheduler"),
        scheduler_why=table.text("scheduler_why"),
        max_running=table.count("max_running"),
        nbytes=_nbytes(table.table("bytes")),
        forecast=_forecast(table.table("forecast")),
    )
    table.require_empty()
    _check_streaming(plan, what)
    _check_kv(plan, what)
    return plan


def _policies(table: CheckedTable) -> PolicyNames:
    names = PolicyNames(
        placement=table.text("placement"),
        expert_cache=table.text("expert_cache"),
        prediction=table.text("prediction"),
        load_order=table.text("load_order"),
        scheduler=table.text("scheduler"),
        retention=table.text("retention"),
    )
    table.require_empty()
    return names


def _nbytes(table: CheckedTable) -> dict[Kind, int]:
    nbytes = {kind: table.size(str(kind)) for kind in Kind}
    table.require_empty()
    return nbytes


def _forecast(table: CheckedTable) -> Forecast:
    ranges = table.table("ranges")

    def figure(name: str) -> Estimate:
        value, (low, high) = table.number(name), ranges.pair(name)
        if not low <= value <= high:
            raise table.wrong(name, "it lies outside of its range")
        return Estimate(value, low, high)

    forecast = Forecast(
        decode_tok_s=figure("decode_tok_s"),
        prefill_tok_s=figure("prefill_tok_s"),
        ttft_s=figure("ttft_s"),
        load_s=figure("load_s"),
        prompt_tokens=table.count("prompt_tokens", 1),
        basis=table.text("basis"),
    )
    ranges.require_empty()
    table.require_empty()
    return forecast


def _check_streaming(plan: Plan, what: str) -> None:
    streamed = plan.streamed_layers
    if list(streamed) != sorted(set(streamed)):
        raise no_such("plan", what, "streamed_layers must name each layer once, in order")
    if streamed and plan.stream_buffers < 2:
        raise no_such(
            "plan", what, "layers that stream need two buffers at least", stream_buffers=plan.stream_buffers
        )


def _check_kv(plan: Plan, what: str) -> None:
    try:
        layer_codecs(plan.kv, len(plan.expert_slots))
    except (NotFound, UsageError) as error:
        raise no_such("plan", what, f"kv: {error}") from error


def _parsed(data: bytes, path: Path) -> object:
    if path.suffix.lower() != ".toml":
        return parse_json_bounded(data, path.name)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise no_such("plan", path.name, f"it is not TOML: {error}") from error


def _toml(told: Mapping[str, Any]) -> str:
    """A plan as TOML: plain keys first, then a table for each group; a size in words stands beside it."""
    tables: list[tuple[str, Mapping[str, Any]]] = [("", told)]
    parts = []
    while tables:
        name, table = tables.pop(0)
        lines = [f"[{name}]"] if name else []
        for key, value in table.items():
            if isinstance(value, Mapping):
                tables.append((f"{name}.{key}" if name else key, value))
            else:
                is_size = name == "bytes" or key == "ram"
                lines.append(
                    f"{key} = {_toml_value(value)}" + (f"  # {format_bytes(value)}" if is_size else "")
                )
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _toml_value(value: object) -> str:
    # TOML writes texts and numbers as JSON does, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
