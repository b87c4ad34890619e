"""A model that a server offers, and how far it is."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep, time
from typing import Literal, TypeAlias

from apportion.core.errors import ApportionError
from apportion.core.resident import give_back_freed
from apportion.engine import LLM
from apportion.engine.shared_ram import SharedRam
from apportion.serve.config import ModelSpec, ServeConfig
from apportion.serve.unloading import IdleModel

TRIES, PAUSE_S = 10, 0.05
State: TypeAlias = Literal["unloaded", "loading", "loaded", "failed"]


@dataclass(slots=True)
class ModelInfo:
    """What there is to know of a model without using it.

    Attributes:
        progress: of loading, 0 to 1.
        created_s: when it was offered, in seconds since 1970.
        error: why it could not be loaded the last time.
        num_users: requests that use it now; idle_s since somebody did, None where nobody ever has.
        nbytes: of memory that its plan gives it; 0 where it has none, or there is no budget.
    """

    name: str
    state: State
    progress: float
    ctx: int | None
    created_s: int
    error: str | None = None
    num_users: int = 0
    idle_s: float | None = None
    nbytes: int = 0


class Offered:
    """A model, loaded or not. For the event loop, but for `progress`."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.llm: LLM | None = None
        self.loading: asyncio.Task[LLM] | None = None
        self.progress = 0.0
        self.error: str | None = None
        self.num_users = 0
        self.num_uses = 0
        self.first_used_s: float | None = None
        self.last_used_s: float | None = None
        self.load_s = 0.0
        self.created_s = int(time())

    @property
    def state(self) -> State:
        if self.llm is not None:
            return "loaded"
        if self.loading is not None:
            return "loading"
        return "unloaded" if self.error is None else "failed"

    @property
    def nbytes(self) -> int:
        apportioned = None if self.llm is None else self.llm.loaded.apportioned
        return 0 if apportioned is None else apportioned.nbytes

    @property
    def is_idle(self) -> bool:
        """Whether it is in memory and nobody uses it."""
        return self.llm is not None and not self.num_users

    @property
    def idle_s(self) -> float | None:
        """Seconds since somebody used it; 0 while somebody does."""
        if self.num_users:
            return 0.0
        return None if self.last_used_s is None else monotonic() - self.last_used_s

    @property
    def info(self) -> ModelInfo:
        return ModelInfo(
            self.spec.name,
            self.state,
            self.progress,
            None if self.llm is None else self.llm.ctx,
            self.created_s,
            self.error,
            self.num_users,
            self.idle_s,
            self.nbytes,
        )

    @property
    def idle(self) -> IdleModel:
        """What unloading is decided by."""
        known_s = 0.0 if self.first_used_s is None else monotonic() - self.first_used_s
        return IdleModel(self.spec.name, self.nbytes, self.load_s, self.idle_s or 0.0, self.num_uses, known_s)

    def enter(self) -> None:
        """Somebody uses it from now on."""
        self.first_used_s = self.first_used_s or monotonic()
        self.num_users += 1
        self.num_uses += 1

    def leave(self) -> None:
        """Somebody uses it no more."""
        self.num_users -= 1
        self.last_used_s = monotonic()


def loaded_llm(
    spec: ModelSpec, config: ServeConfig, shared: SharedRam | None, tell: Callable[[str, int, int], None]
) -> LLM:
    """A model in memory, planned with what the others leave.

    Raises what `LLM` raises.
    """
    if shared is not None:
        shared.measure()
    serving = config.serving
    return LLM(
        spec.reference,
        threads=config.threads,
        ctx=config.ctx,
        kv=config.kv,
        exact=config.exact,
        offline=config.offline,
        on_progress=tell,
        ledger=None if shared is None else shared.ledger,
        policies=config.policies,
        prefill=config.prefill,
        concurrency=serving.concurrency,
        max_running=serving.max_running,
        scheduler=serving.scheduler,
        retention=serving.retention,
        kv_disk=serving.kv_disk,
        kv_dir=serving.kv_dir,
        kv_remote=serving.kv_remote,
        speculate=serving.speculate,
        structured=serving.structured,
        observing=serving.observing,
    )


def put_away(holder: list[LLM]) -> bool:
    """Close the model in `holder`, which is emptied, and give its memory back to the system and then to the
    budget. Whether all of it went: somebody may still refer to it.
    """
    llm = holder.pop()
    end(llm)
    loaded, model = llm.loaded, weakref.ref(llm.model)
    apportioned = loaded.apportioned
    del llm, loaded
    for _ in range(TRIES):  # who answered last is about to let go of it
        give_back_freed()
        if model() is None:
            break
        sleep(PAUSE_S)
    if apportioned is not None:
        apportioned.release()
    return model() is None


def end(llm: LLM) -> None:
    """Close it between two steps; what runs still is cancelled."""
    with llm.engine.between_steps():
        for request in llm.engine.requests():
            llm.engine.cancel(request)
        llm.close()


def stopping() -> ApportionError:
    """What breaks off loading when the server stops."""
    return ApportionError("the server is stopping")
