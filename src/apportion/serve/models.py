"""The models that a server offers, under one budget: loaded when they are asked for, unloaded when others
need their room or nobody has asked for long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from time import monotonic
from typing import Any

from apportion.core.claim import Tier
from apportion.core.errors import ApportionError, DoesNotFit, InUse, UsageError, unknown
from apportion.core.units import MiB, format_bytes
from apportion.engine import LLM
from apportion.engine.budget import ram_bytes
from apportion.engine.shared_ram import SharedRam
from apportion.memory import Ledger
from apportion.serve.config import ServeConfig
from apportion.serve.offered import ModelInfo, Offered, State, loaded_llm, put_away, stopping
from apportion.serve.unloading import giving_way

__all__ = ["ModelInfo", "Models", "Offered", "State"]

logger = logging.getLogger("apportion.serve")
LOOKS = 4  # in the time that an idle model may stay


class Models:
    """Models by name. For the event loop; loading and unloading happen on threads, one at a time.

    Raises:
        UsageError: two models have the same name, or the budget is none.
    """

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._offered = {spec.name: Offered(spec) for spec in config.models}
        if len(self._offered) < len(config.models):
            raise UsageError(
                "two models have the same name", hint="name them: NAME=MODEL", names=[*self._offered]
            )
        self._shared = None if config.ram is None else SharedRam(config.ram)
        self._arranging = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None
        self._is_closing = False

    # --- what there is ---

    @property
    def default_name(self) -> str:
        """Whom requests mean that name no model."""
        return next(iter(self._offered))

    @property
    def ledger(self) -> Ledger | None:
        """The account of the whole process; None where no budget was stated."""
        return None if self._shared is None else self._shared.ledger

    def listed(self) -> list[ModelInfo]:
        return [offered.info for offered in self._offered.values()]

    def loaded(self) -> dict[str, LLM]:
        """Those that are in memory."""
        return {name: one.llm for name, one in self._offered.items() if one.llm is not None}

    def offered(self, name: str | None) -> Offered:
        """A model by its name.

        Raises:
            NotFound: there is none.
        """
        if name is None or name == "":
            name = self.default_name
        if name not in self._offered:
            raise unknown("model", name[:64], self._offered)
        return self._offered[name]

    # --- coming ---

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[LLM]:
        """The model, loaded if it is not; it stays while it is used.

        Raises:
            NotFound: there is no such model.
            DoesNotFit: it does not fit beside those that are in use; the error names the smallest budget.
            ApportionError: it cannot be loaded.
        """
        offered = self.offered(name)
        offered.enter()
        try:
            yield offered.llm or await self.load(offered.spec.name)
        finally:
            offered.leave()

    async def load(self, name: str) -> LLM:
        """Load a model; whoever asks meanwhile waits for the same loading, and hears of the same failure.

        Raises what `use` raises.
        """
        offered = self.offered(name)
        if offered.llm is not None:
            return offered.llm
        if self._is_closing:
            raise stopping()
        if offered.loading is None:
            offered.loading = asyncio.create_task(self._load(offered))
            offered.loading.add_done_callback(looked_at)
        return await asyncio.shield(offered.loading)

    async def _load(self, offered: Offered) -> LLM:
        self._tend()
        offered.error, offered.progress = None, 0.0
        try:
            async with self._arranging:
                began = monotonic()
                offered.llm = await self._fitted(offered)
                offered.last_used_s = monotonic()
                offered.load_s = offered.last_used_s - began
                logger.info("loaded", extra={"fields": loaded_fields(offered)})
        except Exception as error:
            # Its words alone: an error holds on to what was half loaded.
            offered.error = error.what if isinstance(error, ApportionError) else type(error).__name__
            raise
        finally:
            offered.loading = None
        return offered.llm

    async def _fitted(self, offered: Offered) -> LLM:
        """The model in memory; idle ones give way where it would not fit otherwise."""
        while True:
            try:
                return await asyncio.to_thread(
                    loaded_llm, offered.spec, self._config, self._shared, partial(self._told, offered)
                )
            except DoesNotFit as error:
                refusal = error.with_traceback(None)
            lacking = lacking_nbytes(refusal)
            names = None if self._shared is None or lacking <= 0 else self._giving_way(lacking)
            if not names:
                raise self._refusal(offered, refusal) from None
            await self._unload(names)

    def _told(self, offered: Offered, phase: str, done: int, total: int) -> None:
        if self._is_closing:
            raise stopping()
        if phase == "load":
            offered.progress = done / max(1, total)

    def _refusal(self, offered: Offered, error: DoesNotFit) -> DoesNotFit:
        """Why a model does not fit, and the budget of the whole process that would do."""
        smallest, busy = error.numbers.get("smallest_budget"), self._busy()
        if self._shared is None or not isinstance(smallest, int):
            return error
        idle = sum(one.nbytes for one in self._offered.values() if one.is_idle)
        whole = self._shared.used - idle + smallest
        beside = f" beside {', '.join(busy)}" if busy else ""
        return DoesNotFit(
            f"{offered.spec.name} does not fit into {format_bytes(self._shared.limit)}{beside}",
            f"it needs {format_bytes(smallest)} at least",
            f"--ram {-(-whole // MiB)}MiB would do"
            + (", or wait until those are not in use" if busy else ""),
            smallest_budget=whole,
            ram=self._shared.limit,
            in_use=busy,
        )

    def _busy(self) -> list[str]:
        return [name for name, one in self._offered.items() if one.llm is not None and one.num_users]

    # --- going ---

    async def unload(self, name: str) -> None:
        """Give a model's memory back.

        Raises:
            NotFound: there is no such model.
            InUse: somebody uses it.
        """
        await self._arranged(self._unload_one(self.offered(name)))

    async def _unload_one(self, offered: Offered) -> None:
        if offered.num_users and offered.llm is not None:
            raise InUse(
                f"{offered.spec.name} is in use",
                hint="wait until its requests have ended, or cancel them",
                users=offered.num_users,
            )
        await self._unload([offered.spec.name])

    async def _arranged(self, work: Coroutine[None, None, None]) -> None:
        """Do something that changes who is in memory, when nobody else does; it comes to its end also if
        whoever asked for it leaves.
        """

        async def alone() -> None:
            async with self._arranging:
                await work

        await asyncio.shield(asyncio.create_task(alone()))

    def _giving_way(self, nbytes: int) -> list[str] | None:
        return giving_way([one.idle for one in self._offered.values() if one.is_idle], nbytes)

    async def _unload(self, names: Iterable[str]) -> None:
        """Unload those of them that nobody uses, one after the other."""
        for name in names:
            offered = self._offered[name]
            if offered.llm is None or offered.num_users:  # somebody came while another was unloaded
                continue
            holder = [offered.llm]
            offered.llm, offered.progress = None, 0.0
            if not await asyncio.to_thread(put_away, holder):
                logger.warning("something still refers to %s, which was unloaded", name)

    def _tend(self) -> None:
        """See to it that idle models are unloaded in time."""
        if self._tending is None and self._config.keep_alive_s is not None:
            self._tending = asyncio.create_task(self._unload_idle(self._config.keep_alive_s))

    async def _unload_idle(self, keep_alive_s: float) -> None:
        while True:
            await asyncio.sleep(keep_alive_s / LOOKS)
            idle = [name for name, one in self._offered.items() if one.is_idle]
            late = [name for name in idle if (self._offered[name].idle_s or 0.0) >= keep_alive_s]
            if late:
                await self._arranged(self._unload(late))

    async def close(self) -> None:
        """Break off what loads, and unload everything, whoever uses it."""
        self._is_closing = True
        if self._tending is not None:
            self._tending.cancel()
        for offered in self._offered.values():
            if offered.loading is not None:
                with suppress(Exception):
                    await offered.loading
        async with self._arranging:
            for offered in self._offered.values():
                if offered.llm is not None:
                    holder, offered.llm = [offered.llm], None
                    await asyncio.to_thread(put_away, holder)

    # --- the budget ---

    async def set_ram(self, ram: int | str) -> None:
        """Change the budget of the process while it runs: idle models are unloaded, then expert slots given
        back. What was planned with less does not grow; models that are loaded later do.

        Raises:
            UsageError: no budget was stated at the beginning, or this is none.
            DoesNotFit: what is in use takes more; the old budget holds, and the error names the smallest.
        """
        nbytes = ram_bytes(ram)
        if self._shared is None:
            raise UsageError("no budget was stated", hint="start the server with --ram")
        await self._arranged(self._lower(self._shared, nbytes))

    async def _lower(self, shared: SharedRam, nbytes: int) -> None:
        over = shared.used - nbytes
        idle = [one.idle for one in self._offered.values() if one.is_idle]
        if over > 0:
            await self._unload(giving_way(idle, over) or [one.name for one in idle])
        await asyncio.to_thread(self._set_limit, shared, nbytes)

    def _set_limit(self, shared: SharedRam, nbytes: int) -> None:
        with ExitStack() as stack:
            for llm in self.loaded().values():
                stack.enter_context(llm.engine.between_steps())
            before = shared.limit
            if shared.ledger.set_limit(Tier.RAM, nbytes):
                shared.ledger.set_limit(Tier.RAM, before)
                raise DoesNotFit(
                    f"what is in use does not fit into {format_bytes(nbytes)}",
                    f"it takes {format_bytes(shared.used)}",
                    f"{-(-shared.used // MiB)}MiB would do, or unload models first",
                    smallest_budget=shared.used,
                    ram=nbytes,
                    in_use=self._busy(),
                )


def lacking_nbytes(error: DoesNotFit) -> int:
    """Bytes that would have to be free besides, by what a plan or the ledger says; 0 if it says nothing."""
    numbers = error.numbers
    for smallest, have in (("smallest_budget", "ram"), ("smallest", "limit")):
        need, given = numbers.get(smallest), numbers.get(have)
        if isinstance(need, int) and isinstance(given, int):
            return need - given
    return 0


def loaded_fields(offered: Offered) -> dict[str, Any]:
    """What the log says of a model that is there: under a budget also how much of it, and how fast."""
    fields: dict[str, Any] = {"model": offered.spec.name, "seconds": round(offered.load_s or 0.0, 2)}
    plan = None if offered.llm is None else offered.llm.plan
    if plan is not None:
        fields["weights_in_memory"] = round(plan.resident_fraction, 3)
        fields["disk_bytes_per_token"] = round(plan.disk_bytes_per_token)
        fields["forecast_decode_tok_s"] = round(plan.forecast.decode_tok_s.value, 1)
    return fields


def looked_at(task: asyncio.Task[LLM]) -> None:
    """Whoever waited may be gone; then nobody is told, and that is no error."""
    if not task.cancelled() and isinstance(error := task.exception(), ApportionError):
        logger.warning("a model could not be loaded: %s", error.what)
