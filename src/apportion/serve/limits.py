"""What a server takes at most of anything that a client can make large. All of it can be set."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from apportion.core.errors import UsageError, unknown
from apportion.core.units import KiB, MiB, parse_bytes
from apportion.engine.openai import AskLimits

LEAST_BODY_NBYTES = 512 * KiB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what clients send, hold and wait for.

    Attributes:
        body_nbytes: of a request's body; with --ram at most a 1024th of it.
        bodies_nbytes: of all bodies that are being received at once; with --ram at most a 256th of it.
        header_nbytes, num_headers: of a request's head.
        receive_s: seconds from a connection's first byte of a request to the last of its body.
        write_s: seconds that a client may leave an answer unread.
        idle_s: seconds that a connection may wait for its next request.
        connections, connections_per_ip: open at once.
        queue: requests that wait for their turn; more are told to come again.
        num_messages, num_tools, num_choices, num_prompts, num_inputs: items of one request.
        num_stop, stop_nbytes: stop strings, and the length of each.
        top_logprobs, logit_bias: entries of one request.
        schema_nbytes, schema_depth, regex_nbytes: of the forms that answers are held to.
        model_name_nbytes: of a model's name.
    """

    body_nbytes: int = 32 * MiB
    bodies_nbytes: int = 64 * MiB
    header_nbytes: int = 16 * KiB
    num_headers: int = 100
    receive_s: float = 30.0
    write_s: float = 30.0
    idle_s: float = 75.0
    connections: int = 256
    connections_per_ip: int = 32
    queue: int = 256
    num_messages: int = 2048
    num_tools: int = 128
    num_choices: int = 8
    num_prompts: int = 256
    num_inputs: int = 2048
    num_stop: int = 16
    stop_nbytes: int = 256
    top_logprobs: int = 20
    logit_bias: int = 1024
    schema_nbytes: int = 64 * KiB
    schema_depth: int = 32
    regex_nbytes: int = 4 * KiB
    model_name_nbytes: int = 256

    def within(self, ram_nbytes: int) -> Limits:
        """The limits with bodies that a budget has room for, where theirs were not set: what is read of JSON
        takes many times its bytes for a moment, and the budget is of the whole process.
        """
        most = {
            "body_nbytes": max(LEAST_BODY_NBYTES, ram_nbytes // 1024),
            "bodies_nbytes": max(4 * LEAST_BODY_NBYTES, ram_nbytes // 256),
        }
        defaults = Limits()
        unset = {
            name: nbytes for name, nbytes in most.items() if getattr(self, name) == getattr(defaults, name)
        }
        return replace(self, **{name: min(getattr(self, name), nbytes) for name, nbytes in unset.items()})

    @property
    def asks(self) -> AskLimits:
        """Those of what one body may ask for."""
        return AskLimits(
            num_messages=self.num_messages,
            num_prompts=self.num_prompts,
            num_choices=self.num_choices,
            num_stop=self.num_stop,
            stop_nbytes=self.stop_nbytes,
            num_tools=self.num_tools,
            schema_nbytes=self.schema_nbytes,
            schema_depth=self.schema_depth,
            regex_nbytes=self.regex_nbytes,
            top_logprobs=self.top_logprobs,
            logit_bias=self.logit_bias,
            text_nbytes=self.model_name_nbytes,
        )


MAX_FILE_NBYTES = 64 * KiB


def limited(limits: Limits, given: Mapping[str, object]) -> Limits:
    """The limits with some of them set, by their names, from numbers or from text such as `8MiB`.

    Raises:
        UsageError: there is no such limit, or the value is no number above 0.
    """
    defaults = {one.name: one.default for one in fields(Limits)}
    for name in given:
        if name not in defaults:
            raise unknown("limit", name, defaults, UsageError)
    values: dict[str, Any] = {name: read(name, raw, defaults[name]) for name, raw in given.items()}
    return replace(limits, **values)


def read(name: str, raw: object, default: object) -> int | float:
    """A limit's value, of the same kind as its default."""
    try:
        if isinstance(raw, bool):
            raise ValueError
        text = str(raw).strip()
        value = parse_bytes(text) if name.endswith("_nbytes") else type(default)(text)  # type: ignore[call-arg]
    except (ValueError, UsageError):
        value = 0
    if not isinstance(value, int | float) or not 0 < value < 1e15:
        hint = "give bytes such as 8MiB" if name.endswith("_nbytes") else "give a number above 0"
        raise UsageError(f"the limit {name} cannot be {str(raw)[:40]!r}", hint=hint)
    return value


def read_limits(path: Path) -> Mapping[str, object]:
    """The limits that a TOML file sets, unread.

    Raises:
        UsageError: it cannot be read, or it is no TOML.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.loads(stream.read(MAX_FILE_NBYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            "a file of limits cannot be read",
            getattr(error, "strerror", None) or str(error),
            "write lines such as queue = 64",
        ) from None
