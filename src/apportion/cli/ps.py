"""Say what a running server has loaded and what it is doing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import json_option
from apportion.cli._output import print_object
from apportion.cli._tables import console, table
from apportion.core.errors import Unsupported

if TYPE_CHECKING:
    from rich.table import Table

URL = "http://127.0.0.1:8080"
STATUS = "/v1/apportion/status"
NONE = "-"
Status = Mapping[str, Any]


@click.command()
@click.option("--url", default=URL, show_default=True, help="Where the server listens.")
@json_option
def command(url: str, as_json: bool) -> None:
    """Say what a running server has loaded and what it is doing.

    Where the server wants a key, it is taken from the settings api_keys or admin_key. With the admin's key
    the requests of all callers are listed, otherwise those of the key.
    """
    status = status_of(url)
    print_object(status) if as_json else print_status(status)


def status_of(url: str) -> Status:
    """What the server says of itself.

    Raises:
        UsageError: `url` is no address.
        SourceError: nobody answers there, or refuses to.
        Unsupported: it is another server.
    """
    from apportion.bench.load.exchange import request_bytes
    from apportion.bench.load.server import address_of, answer_to
    from apportion.core.settings import ADMIN_KEY, API_KEYS, get

    address = address_of(url)
    keys = (*get(ADMIN_KEY).words, *get(API_KEYS).words)
    status = answer_to(address, request_bytes(address, "GET", STATUS, key=keys[0] if keys else ""))
    if not {"budget", "models", "requests"} <= status.keys():
        raise Unsupported(
            "this server does not tell its status", hint="`apportion serve` starts one that does"
        )
    return status


def print_status(status: Status) -> None:
    out = console()
    for line in headlines(status):
        out.print(line)
    out.print(models_table(status["models"]))
    if status["requests"]:
        out.print(requests_table(status["requests"]))
    else:
        out.print("No requests.")


def headlines(status: Status) -> Iterator[str]:
    """The server and its memory."""
    from apportion.core.units import format_bytes, format_duration

    state = "draining" if status["draining"] else "ready" if status["ready"] else "no model is loaded"
    yield f"apportion {status['version']}, up {format_duration(int(status['uptime_s']))}: {state}"
    ram = status["budget"]["ram"]
    limit = ram["limit_bytes"]
    resident = f"{format_bytes(ram['rss_bytes'])} resident, {format_bytes(ram['peak_rss_bytes'])} at most"
    if limit is None:
        yield f"memory: no budget; {resident}"
    else:
        leased = format_bytes(ram["leased_bytes"])
        yield f"memory: {leased} of {format_bytes(limit)} spoken for; {resident}"
    disk = status["budget"]["disk"]
    if disk["limit_bytes"]:
        used = format_bytes(disk["used_bytes"])
        yield f"disk: {used} of {format_bytes(disk['limit_bytes'])} hold keys and values"


def models_table(models: Iterable[Status]) -> Table:
    titles = ("model", "state", "ctx", "decode", "planned", "prefill", "planned", "KV used", "experts here")
    return table(titles, [model_row(model) for model in models], numbers=(2, 3, 4, 5, 6, 7, 8))


def model_row(model: Status) -> tuple[str, ...]:
    """A model's line; rates in tokens a second."""
    forecast, measured = model["forecast"] or {}, model["measured"]
    state = f"loading {model['progress']:.0%}" if model["state"] == "loading" else model["state"]
    kv, experts = model["kv"], model["experts"]
    used = NONE if kv is None else share(kv["blocks"] - kv["free_blocks"] - kv["kept_blocks"], kv["blocks"])
    here = NONE if experts is None else share(experts["resident"], experts["layers"] * experts["experts"])
    rates = [
        shown(rate.get(name)) for name in ("decode_tok_s", "prefill_tok_s") for rate in (measured, forecast)
    ]
    return (model["name"], state, str(model["ctx"] or NONE), *rates, used, here)


def requests_table(requests: Iterable[Status]) -> Table:
    titles = ("request", "model", "state", "prompt", "answer", "age", "first token", "tok/s")
    return table(titles, [request_row(one) for one in requests], numbers=(3, 4, 5, 6, 7))


def request_row(request: Status) -> tuple[str, ...]:
    """A request's line."""
    from apportion.core.units import format_duration

    ttft = request["ttft_s"]
    return (
        request["id"],
        request["model"],
        request["state"],
        f"{request['computed_tokens']}/{request['prompt_tokens']}",
        f"{request['output_tokens']}/{request['max_tokens']}",
        format_duration(request["age_s"]),
        NONE if ttft is None else format_duration(ttft),
        shown(request["tok_s"]),
    )


def shown(rate: float | None) -> str:
    from apportion.core.units import three_digits

    return NONE if rate is None else three_digits(rate)


def share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else NONE
