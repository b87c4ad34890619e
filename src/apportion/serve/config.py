"""What a server is told when it starts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

from apportion.engine.assembly import Serving
from apportion.serve.limits import Limits
from apportion.serve.logs import LogFormat

if TYPE_CHECKING:
    from apportion.plan import PolicyNames
    from apportion.plan.plan import PrefillOrder

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that a server offers.

    Attributes:
        name: what clients call it.
        reference: where it comes from, as for `LLM`.
    """

    name: str
    reference: str

    @classmethod
    def parse(cls, text: str) -> ModelSpec:
        """`REFERENCE`, or `NAME=REFERENCE`; a file's name without its ending is its name."""
        name, equals, reference = text.partition("=")
        if equals and name and "/" not in name and ":" not in name:
            return cls(name, reference)
        if text.endswith(".gguf") or "/" in text:
            return cls(PurePath(text).name.removesuffix(".gguf"), text)
        return cls(text, text)


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A server.

    Attributes:
        models: the first is what requests get that name none.
        ram: the budget of the whole process, as for `LLM`; None for none.
        ctx: positions of a request's context.
        serving: how each model serves requests.
        threads, kv, exact, offline, policies, prefill: as for `LLM`.
        api_keys: one of them must come with each request; none: everybody may ask.
        admin_key: of the routes that change the server; None: there are no such routes.
        allowed_hosts: names that a Host header may have besides the address that is listened at.
        cors_origins: pages of these origins may ask from a browser.
        keep_alive_s: an idle model is unloaded after so many seconds; None: never.
        ping_s: seconds of silence after which a stream gets a comment.
        drain_s: seconds that running requests get when the server is told to stop.
        log_format, log_level: of the log on stderr.
        watch_s: seconds after which something that runs is taken to hang, and is named in the log.
        metrics_compat: other names that metrics come under besides, `vllm`.
    """

    models: tuple[ModelSpec, ...]
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    ram: int | str | None = None
    ctx: int | None = None
    kv: str | None = None
    serving: Serving = field(default_factory=lambda: Serving(concurrency=8))
    threads: int | None = None
    exact: bool = False
    offline: bool = False
    policies: PolicyNames | None = None
    prefill: PrefillOrder = "layer_major"
    api_keys: tuple[str, ...] = ()
    admin_key: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    keep_alive_s: float | None = None
    ping_s: float = 15.0
    drain_s: float = 30.0
    log_format: LogFormat = "text"
    log_level: str = "info"
    watch_s: float = 60.0
    metrics_compat: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
