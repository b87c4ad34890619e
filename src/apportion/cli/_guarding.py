"""Options of whom a server answers, and within which limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from apportion.cli._options import compose
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.serve import ServeConfig

MAX_FILE_NBYTES = 1024**2


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What a person says of keys, names, limits, the log and the end."""

    api_key: tuple[str, ...]
    api_key_file: Path | None
    admin_key_file: Path | None
    allowed_host: tuple[str, ...]
    cors_origin: tuple[str, ...]
    limit: tuple[str, ...]
    limits_file: Path | None
    drain: float
    log_format: Literal["text", "json"]
    log_level: str

    def applied(self, config: ServeConfig) -> ServeConfig:
        """The configuration with what these options, their files and the settings say now.

        Raises:
            UsageError: one of the files cannot be read, or holds what is no key or no limit.
        """
        from apportion.core.settings import ADMIN_KEY, API_KEYS, get
        from apportion.serve.limits import Limits, limited, read_limits

        from_file = {} if self.limits_file is None else read_limits(self.limits_file)
        limits = limited(limited(Limits(), from_file), dict(map(pair, self.limit)))
        admins = (*keys_in(self.admin_key_file), *get(ADMIN_KEY).words)
        return replace(
            config,
            api_keys=(*self.api_key, *keys_in(self.api_key_file), *get(API_KEYS).words),
            admin_key=admins[0] if admins else None,
            allowed_hosts=self.allowed_host,
            cors_origins=self.cors_origin,
            limits=limits,
            drain_s=self.drain,
            log_format=self.log_format,
            log_level=self.log_level,
        )


def pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text[:40]!r} sets no limit", hint="write --limit queue=64")
    return name.strip(), value


def keys_in(path: Path | None) -> list[str]:
    """The keys in a file, one a line; lines that begin with # say something about them.

    Raises:
        UsageError: it cannot be read, or holds no key.
    """
    if path is None:
        return []
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_FILE_NBYTES).decode()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise UsageError("a file of keys cannot be read", why, "check the path and its permissions") from None
    keys = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not keys:
        raise UsageError("a file of keys holds none", hint="write one key a line")
    return keys


def guard_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `GuardOptions`; the verb gets them as `guard`."""

    @GUARD_OPTIONS
    @wraps(function)
    def call(**given: Any) -> Any:
        names = [one.name for one in fields(GuardOptions)]
        return function(guard=GuardOptions(**{name: given.pop(name) for name in names}), **given)

    return call


existing = click.Path(exists=True, dir_okay=False, path_type=Path)

GUARD_OPTIONS = compose(
    click.option(
        "--api-key",
        multiple=True,
        help="A key that requests may come with; several for several users. Others on this machine see it in "
        "the list of processes: a file is better [APPORTION_API_KEYS].",
    ),
    click.option("--api-key-file", type=existing, help="A file of such keys, one a line."),
    click.option(
        "--admin-key-file",
        type=existing,
        help="A file with the admin's key; without one nothing can be administered [APPORTION_ADMIN_KEY].",
    ),
    click.option(
        "--allowed-host",
        multiple=True,
        metavar="NAME",
        help="A name that the server goes by besides its address; * for any.",
    ),
    click.option(
        "--cors-origin",
        multiple=True,
        metavar="ORIGIN",
        help="Pages of this origin (https://chat.example) may use the server from a browser.",
    ),
    click.option(
        "--limit",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a limit, such as body_nbytes=8MiB or queue=64; docs/operating.md lists them.",
    ),
    click.option("--limits-file", type=existing, help="A TOML file that sets limits; --limit wins."),
    click.option(
        "--drain",
        type=click.FloatRange(min=0),
        default=30.0,
        show_default=True,
        metavar="SECONDS",
        help="How long running requests may go on once the server is told to stop.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How lines of the log are written.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What is logged: with warning, no line for each request.",
    ),
)
