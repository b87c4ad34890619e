"""The models that a server offers, loaded when they are asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from time import time
from typing import Literal, TypeAlias

from apportion.core.errors import unknown
from apportion.engine import LLM
from apportion.serve.config import ModelSpec, ServeConfig

State: TypeAlias = Literal["unloaded", "loading", "loaded", "failed"]


@dataclass(slots=True)
class ModelInfo:
    """What there is to know of a model without using it.

    Attributes:
        progress: of loading, 0 to 1.
        created_s: when it was offered, in seconds since 1970.
    """

    name: str
    state: State
    progress: float
    ctx: int | None
    created_s: int
    error: str | None = None


class Offered:
    """A model and how far it is."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.llm: LLM | None = None
        self.loading: asyncio.Task[LLM] | None = None
        self.progress = 0.0
        self.error: Exception | None = None
        self.num_users = 0
        self.created_s = int(time())

    @property
    def state(self) -> State:
        if self.llm is not None:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "unloaded" if self.error is None else "failed"

    @property
    def info(self) -> ModelInfo:
        ctx = None if self.llm is None else self.llm.ctx
        error = None if self.error is None else getattr(self.error, "what", type(self.error).__name__)
        return ModelInfo(self.spec.name, self.state, self.progress, ctx, self.created_s, error)


class Models:
    """Models by name."""

    def __init__(self, config: ServeConfig) -> None:
        self._config = config
        self._offered = {spec.name: Offered(spec) for spec in config.models}

    @property
    def default_name(self) -> str:
        """Whom requests mean that name no model."""
        return next(iter(self._offered))

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

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[LLM]:
        """The model, loaded if it is not; it stays while it is used.

        Raises:
            NotFound: there is no such model.
            ApportionError: it cannot be loaded.
        """
        offered = self.offered(name)
        offered.num_users += 1
        try:
            yield offered.llm or await self.load(offered.spec.name)
        finally:
            offered.num_users -= 1

    async def load(self, name: str) -> LLM:
        """Load a model; whoever asks meanwhile waits for the same loading."""
        offered = self.offered(name)
        if offered.llm is not None:
            return offered.llm
        if offered.loading is None:
            offered.loading = asyncio.create_task(self._load(offered))
        return await asyncio.shield(offered.loading)

    async def unload(self, name: str) -> None:
        """Give a model's memory back."""
        offered = self.offered(name)
        llm, offered.llm = offered.llm, None
        if llm is not None:
            await asyncio.to_thread(llm.close)

    async def close(self) -> None:
        for name in self._offered:
            await self.unload(name)

    async def _load(self, offered: Offered) -> LLM:
        offered.error = None
        try:
            offered.llm = await asyncio.to_thread(partial(self._loaded, offered))
        except Exception as error:
            offered.error = error
            raise
        finally:
            offered.loading = None
        return offered.llm

    def _loaded(self, offered: Offered) -> LLM:
        def progress(phase: str, done: int, total: int) -> None:
            if phase == "load":
                offered.progress = done / max(1, total)

        config, serving = self._config, self._config.serving
        return LLM(
            offered.spec.reference,
            threads=config.threads,
            ctx=config.ctx,
            kv=config.kv,
            exact=config.exact,
            offline=config.offline,
            on_progress=progress,
            ram=config.ram,
            policies=config.policies,
            prefill=config.prefill,
            concurrency=serving.concurrency,
            scheduler=serving.scheduler,
            retention=serving.retention,
            kv_disk=serving.kv_disk,
            kv_dir=serving.kv_dir,
            kv_remote=serving.kv_remote,
            speculate=serving.speculate,
            structured=serving.structured,
        )
