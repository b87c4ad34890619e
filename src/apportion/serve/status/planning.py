"""Plans for people who try budgets: from headers alone, beside what the server computes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from apportion.core.errors import LimitExceeded, NotFound, Overloaded, SourceError
from apportion.core.resident import rss_bytes
from apportion.core.settings import THREADS, get
from apportion.core.units import MiB
from apportion.engine.budget import profile_for
from apportion.engine.shared_ram import server_nbytes
from apportion.hardware.budget import parse_budget
from apportion.hardware.memory import memory_limits
from apportion.hardware.profile import Profile
from apportion.kernels.native import available_threads
from apportion.models import config_from_checkpoint
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits, model_units
from apportion.plan import Planner, PolicyNames, facts_of
from apportion.plan.estimate import runtime_nbytes
from apportion.serve.config import ModelSpec, ServeConfig
from apportion.sources.headers import open_headers
from apportion.sources.reference import HubReference, parse_reference

MOST_WAITING = 4
LONGEST_S = 20.0
RETRY_S = 2
DRIFT_NBYTES = 2 * MiB  # a process takes as much more or less from one start to the next


@dataclass(frozen=True, slots=True)
class Headers:
    """What a plan needs of a model."""

    config: ModelConfig
    units: ModelUnits
    runtime_nbytes: int
    profile: Profile | None


class Planning:
    """Plans, one at a time. It remembers one model's headers: who tries budgets tries several.

    Args:
        base_nbytes: what the process has with nothing loaded.
    """

    def __init__(self, config: ServeConfig, base_nbytes: int | None = None) -> None:
        self._config = config
        self._base_nbytes = rss_bytes() + DRIFT_NBYTES if base_nbytes is None else base_nbytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="apportion-plan")
        self._num_waiting = 0
        self._known: tuple[ModelSpec, Headers] | None = None

    async def plan(self, spec: ModelSpec, ram: int | str, ctx: int | None) -> dict[str, Any]:
        """The plan that the server would carry out within a budget, as `apportion plan --json` tells it.

        Raises:
            Overloaded: others wait for plans already.
            LimitExceeded: it takes too long.
            NotFound: the model is not on this machine.
            DoesNotFit: the budget is too small; the error names the smallest that would do.
            UsageError: the budget or the context is none.
        """
        if self._num_waiting >= MOST_WAITING:
            raise Overloaded(
                "too many plans are being made",
                hint="try again later",
                retry_after_s=RETRY_S,
                limit=MOST_WAITING,
            )
        self._num_waiting += 1
        work = self._thread.submit(self._planned, spec, ram, ctx)
        work.add_done_callback(lambda _: self._left())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(work), LONGEST_S)
        except TimeoutError:
            raise LimitExceeded(
                "the plan took too long", "the disk or the hub is slow", "try again later", seconds=LONGEST_S
            ) from None

    def close(self) -> None:
        """Make no more of them."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _left(self) -> None:
        self._num_waiting -= 1

    def _planned(self, spec: ModelSpec, ram: int | str, ctx: int | None) -> dict[str, Any]:
        headers = self._headers(spec)
        nbytes = ram if isinstance(ram, int) else parse_budget(ram, memory_limits(), bounded=False)
        planner = self._planner(spec, headers, ctx)
        return facts_of(planner.plan(nbytes), planner)

    def _headers(self, spec: ModelSpec) -> Headers:
        if self._known is None or self._known[0] != spec:
            self._known = (spec, headers_of(spec, self._config.offline))
        return self._known[1]

    def _planner(self, spec: ModelSpec, headers: Headers, ctx: int | None) -> Planner:
        config, serving = self._config, self._config.serving
        beside = server_nbytes(serving, headers.config.vocab_size, self._base_nbytes)
        return Planner(
            config=headers.config,
            units=headers.units,
            runtime_nbytes=headers.runtime_nbytes + beside,
            threads=config.threads or get(THREADS) or available_threads(),
            model=spec.name,
            ctx=ctx or config.ctx,
            kv=config.kv or serving.kv,
            concurrency=serving.concurrency,
            profile=headers.profile,
            policies=config.policies or PolicyNames(),
            prefill=config.prefill,
        )


def headers_of(spec: ModelSpec, offline: bool) -> Headers:
    """Read a model's headers. A model on the hub stays there; nothing is downloaded.

    Raises:
        NotFound: it would have to be.
        ApportionError: it cannot be read or run.
    """
    on_hub = isinstance(parse_reference(spec.reference), HubReference)
    try:
        with open_headers(spec.reference, offline=offline or not on_hub) as (found, checkpoint):
            config = config_from_checkpoint(checkpoint)
            return Headers(
                config,
                model_units(config, checkpoint.tensors),
                runtime_nbytes(config, checkpoint.metadata),
                profile_for(found.path),
            )
    except (NotFound, SourceError):
        raise NotFound(
            f"the model {spec.name!r} is not on this machine",
            hint="`apportion pull` it first",
        ) from None
