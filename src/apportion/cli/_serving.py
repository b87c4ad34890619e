"""Options of how requests are served: how many at once, in which order, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apportion.cli._options import compose

if TYPE_CHECKING:
    from apportion.engine.assembly import Serving


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """The fields of `engine.assembly.Serving` that a person chooses."""

    retention: str
    kv_disk: str
    kv_dir: Path | None
    kv_remote: str | None
    concurrency: int = 1
    max_running: int | None = None
    scheduler: str = "auto"
    speculate: str = "none"

    def serving(self, structured: bool = False) -> Serving:
        """For the engine; `structured` where answers will be held to forms."""
        from apportion.engine.assembly import Serving

        return Serving(
            concurrency=self.concurrency,
            max_running=self.max_running,
            scheduler=self.scheduler,
            speculate=self.speculate,
            structured=structured,
            retention=self.retention,
            kv_disk=self.kv_disk,
            kv_dir=self.kv_dir,
            kv_remote=self.kv_remote,
        )


def serving_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The fields of `ServingOptions`; the verb gets them as `serving`."""
    return SERVING_OPTIONS(gathered(function))


def batch_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with room for several requests unless told; the verb gets them as `serving`."""
    return BATCH_OPTIONS(gathered(function))


def keeping_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Those of them that matter to one request after the other; the verb gets them as `serving`."""
    return KEEPING_OPTIONS(gathered(function))


def gathered(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(**values: Any) -> Any:
        names = [field.name for field in fields(ServingOptions) if field.name in values]
        chosen = {name: values.pop(name) for name in names}
        return function(serving=ServingOptions(**chosen), **values)

    return call


def concurrency_option(default: int) -> Callable[[Any], Any]:
    return click.option(
        "--concurrency",
        type=click.IntRange(min=1),
        default=default,
        show_default=True,
        help="Requests of a whole context that KV has room for; more that are shorter fit, too.",
    )


scheduler_option = click.option(
    "--scheduler",
    metavar="POLICY",
    default="auto",
    show_default=True,
    help="What runs in a step; auto is what the plan finds best for how weights are kept.",
)
retention_option = click.option(
    "--retention",
    metavar="POLICY",
    default="lru",
    show_default=True,
    help="Which keys and values of earlier requests go first when room is short.",
)

KEEPING_OPTIONS = compose(
    retention_option,
    click.option(
        "--kv-disk",
        metavar="SIZE",
        default="0",
        help="Keep keys and values of earlier requests on disk, at most so much: 20GiB [default: none].",
    ),
    click.option(
        "--kv-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where --kv-disk keeps them [default: the setting kv_dir].",
    ),
    click.option(
        "--kv-remote",
        metavar="URL",
        help="Share them with other machines through a Redis or Valkey server: redis://host:6379/0.",
    ),
)

STEP_OPTIONS = compose(
    scheduler_option,
    click.option(
        "--speculate",
        metavar="WAY",
        default="none",
        show_default=True,
        help="Guess tokens ahead and check them together: prompt_lookup, or draft:MODEL. Answers stay.",
    ),
    KEEPING_OPTIONS,
)

max_running_option = click.option(
    "--max-running",
    type=click.IntRange(min=1),
    help="Requests that run at once [default: all that have room; where weights stream, as planned].",
)

SERVING_OPTIONS = compose(concurrency_option(1), max_running_option, STEP_OPTIONS)
BATCH_OPTIONS = compose(concurrency_option(8), max_running_option, STEP_OPTIONS)
