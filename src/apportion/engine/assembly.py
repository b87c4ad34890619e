"""From a loaded model to an engine that serves it: pages, policies, prefix index and store, put together."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.core.clock import RealClock
from apportion.core.errors import UsageError
from apportion.core.units import parse_bytes
from apportion.engine.block_cost import block_cost
from apportion.engine.engine import MAX_RUNNING, Engine
from apportion.engine.grammar.vocabulary import FORMS_NBYTES, NBYTES_PER_TOKEN
from apportion.engine.kv.blocks import BlockPool
from apportion.engine.kv.reuse import Reuse
from apportion.engine.kv.space import KvSpace, blocks_for
from apportion.engine.model_executor import ModelExecutor
from apportion.engine.observers import OBSERVING_NBYTES, states_at_once
from apportion.engine.prefix.identity import model_digest, tokenizer_digest
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.prefix.reads import ThreadedReads
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.engine.speculation.ways import BASELINE, Guesses, choose_way
from apportion.engine.store.config import QUEUE_NBYTES
from apportion.engine.stores import AnyStore, open_stores
from apportion.kernels.kv import KvPool
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.kv_codecs import DEFAULT, layer_codecs
from apportion.models.cache import kv_layouts
from apportion.models.hot_window import AT_ONCE, num_hot_blocks
from apportion.policies.retention import RETENTIONS
from apportion.policies.scheduler import SCHEDULERS

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel

PREFILL_CHUNK = 512  # tokens per pass; beyond it products gain little
AUTO = "auto"
DEFAULT_CTX = 8192  # a bound keeps a runaway answer affordable


@dataclass(frozen=True, slots=True)
class Serving:
    """How a loaded model serves requests.

    Args:
        ctx: positions of the context of a request; 0 in what is not complete.
        kv: KV codec, or one for each layer (`kernels.kv_codecs.layer_codecs`).
        concurrency: requests of `ctx` positions that there is KV room for; more that are shorter fit too.
        scheduler, retention: which policies; `auto` is the scheduler that suits how weights are kept.
        step_tokens: as many tokens may pass in one step; None: what is planned, or else a good number.
        max_running: as many requests run at once, the others wait; None: as many as have room, or, where
            weights come and go, as many as the plan finds fastest.
        kv_disk: bytes of disk for keys and values of earlier requests; 0: none. They lie in `kv_dir`.
        kv_remote: address of a store that several machines share (`redis://host:port/0`); None for none.
        speculate: the way to guess tokens ahead (`engine.speculation.ways`).
        structured: answers will be held to forms, and a budget has room for what that takes.
        observing: the same for log-probabilities of prompts, and embeddings.
    """

    ctx: int = 0
    kv: str = DEFAULT
    concurrency: int = 1
    scheduler: str = AUTO
    retention: str = RETENTIONS.baseline
    step_tokens: int | None = None
    max_running: int | None = None
    kv_disk: int | str = 0
    kv_dir: str | Path | None = None
    kv_remote: str | None = None
    speculate: str = BASELINE
    structured: bool = False
    observing: bool = False

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise UsageError("concurrency must be at least 1", concurrency=self.concurrency)
        if self.max_running is not None and self.max_running < 1:
            raise UsageError("max_running must be at least 1", max_running=self.max_running)
        if self.scheduler != AUTO:
            SCHEDULERS.choose(self.scheduler)
        RETENTIONS.choose(self.retention)
        choose_way(self.speculate)
        if self.kv_disk_nbytes < 0:
            raise UsageError("kv_disk cannot be negative", kv_disk=self.kv_disk)

    @property
    def beside_nbytes(self) -> int:
        """Bytes of memory that serving takes beside the model, its keys and values and what steps need."""
        way, argument = choose_way(self.speculate)
        guesses = way.beside_nbytes(argument, self.ctx or None, self.concurrency)
        forms = FORMS_NBYTES if self.structured else 0
        states = OBSERVING_NBYTES if self.observing else 0
        queues = bool(self.kv_disk_nbytes) + (self.kv_remote is not None)
        return guesses + forms + states + queues * QUEUE_NBYTES

    @property
    def beside_per_token(self) -> int:
        """Bytes of memory besides, for each token of the vocabulary."""
        return NBYTES_PER_TOKEN if self.structured else 0

    @property
    def kv_disk_nbytes(self) -> int:
        """Bytes of disk for keys and values."""
        return self.kv_disk if isinstance(self.kv_disk, int) else parse_bytes(self.kv_disk)

    def completed(self, loaded: LoadedModel, ctx: int | None, kv: str | None) -> Serving:
        """The same for a model: a plan in force decides first, then what is asked for, then defaults.

        Raises:
            UsageError: the context is longer than the model was trained for.
        """
        if loaded.apportioned is not None:
            plan = loaded.apportioned.plan
            return replace(self, ctx=plan.ctx, kv=plan.kv, concurrency=plan.concurrency)
        trained = loaded.model.config.context_length
        return replace(self, ctx=context_length(ctx, trained), kv=kv or self.kv)


@dataclass(frozen=True, slots=True)
class Assembled:
    """An engine and what belongs to it.

    Attributes:
        index, store: where keys and values of earlier requests are kept; None where they are not.
    """

    serving: Serving
    engine: Engine
    reuse: Reuse
    guesses: Guesses
    close: Callable[[], None]
    index: PrefixIndex | None = None
    store: AnyStore | None = None


def assemble(loaded: LoadedModel, serving: Serving) -> Assembled:
    """An engine for a model.

    Raises:
        UsageError, NotFound: a policy or codec that is unknown.
        DiskFault: the folder for keys and values cannot be used.
    """
    model = loaded.model
    layouts = kv_layouts(model.config, serving.kv)
    smoothing = model.smoothing() if layouts.smooth else ()
    num_blocks = blocks_for(serving.ctx, BLOCK_TOKENS) * serving.concurrency
    pages = KvPool.of(layouts.cold, num_blocks, smoothing)
    hot, hot_each = None, num_hot_blocks(serving.ctx)
    if layouts.hot is not None:
        hot = KvPool.of(layouts.hot, hot_each * serving.concurrency, smoothing)
    pool = BlockPool(pages.blocks)
    clock, cost = RealClock(), block_cost(loaded, serving)
    identity = fingerprint_of(loaded, serving)
    retention = RETENTIONS.choose(serving.retention).state()
    with ExitStack() as stack:
        store = open_stores(
            identity,
            layouts.cold.block_nbytes,
            disk_nbytes=serving.kv_disk_nbytes,
            folder=serving.kv_dir,
            remote=serving.kv_remote,
            retention=serving.retention,
            cost=cost,
        )
        if store is not None:
            stack.callback(store.close)
        index = PrefixIndex(pool, retention, clock, cost, store, BLOCK_TOKENS)
        reads = None if store is None else ThreadedReads(store.read_into)
        reuse = PrefixReuse(index, pool, identity, clock, cost, retention, reads=reads)
        stack.callback(reuse.close)
        engine = Engine(
            ModelExecutor(model, pages, hot, hot_each, serving.ctx),
            KvSpace(pool, index),
            SCHEDULERS.choose(scheduler_for(loaded, serving)).state(),
            block_tokens=BLOCK_TOKENS,
            reuse=reuse,
            clock=clock,
            max_running=most_running(loaded, serving, hot is not None),
            item_tokens=sys.maxsize if hot is None or model.residency is not None else AT_ONCE,
            step_tokens=serving.step_tokens or step_tokens(loaded, serving),
            observed_tokens=states_at_once(model.config.hidden_size),
        )
        guesses = open_guesses(loaded, serving)
        stack.callback(guesses.close)
        return Assembled(serving, engine, reuse, guesses, stack.pop_all().close, index, store)


def open_guesses(loaded: LoadedModel, serving: Serving) -> Guesses:
    """Guesses for a model's requests."""
    way, argument = choose_way(serving.speculate)
    return way.open(argument, loaded, serving.ctx, serving.concurrency)


def scheduler_for(loaded: LoadedModel, serving: Serving) -> str:
    """The scheduler that was asked for, or the plan's (`plan.scheduling` says why)."""
    if serving.scheduler != AUTO:
        return serving.scheduler
    return "chunked" if loaded.apportioned is None else loaded.apportioned.plan.scheduler


def most_running(loaded: LoadedModel, serving: Serving, is_hot: bool) -> int:
    """Requests that run at once: as was asked for, or as was planned, within what there is room for."""
    planned = 0 if loaded.apportioned is None else loaded.apportioned.plan.max_running
    most = serving.max_running or planned or MAX_RUNNING
    return min(most, serving.concurrency if is_hot else MAX_RUNNING)


def step_tokens(loaded: LoadedModel, serving: Serving) -> int:
    """As many tokens as activations have room for."""
    if loaded.apportioned is None:
        return max(PREFILL_CHUNK, serving.ctx)
    return tokens_per_pass(loaded, serving.ctx)


def tokens_per_pass(loaded: LoadedModel, ctx: int) -> int:
    """The most tokens of a prompt that are computed at once."""
    if loaded.apportioned is None or loaded.apportioned.residency is None:
        return PREFILL_CHUNK
    return ctx if loaded.apportioned.plan.prefill == "layer_major" else PREFILL_CHUNK


def fingerprint_of(loaded: LoadedModel, serving: Serving) -> bytes:
    """What keys and values depend on besides tokens; of no account where they never leave this process."""
    if not serving.kv_disk_nbytes and serving.kv_remote is None:
        return b"this process"
    checkpoint = loaded.checkpoint
    layout = " ".join(layer_codecs(serving.kv, loaded.model.config.num_layers))
    if loaded.model.is_long(serving.ctx):  # keys are rotated by other factors
        layout += " long"
    return fingerprint(model_digest(checkpoint), tokenizer_digest(checkpoint), layout)


def context_length(wanted: int | None, trained: int) -> int:
    """Positions of the context: what is wanted, within what the model was trained for.

    Raises:
        UsageError: that is not so.
    """
    if wanted is None:
        return min(trained, DEFAULT_CTX)
    if not 1 <= wanted <= trained:
        raise UsageError(
            "ctx is out of range",
            "the model was trained for a shorter context" if wanted > trained else "it must be at least 1",
            f"choose 1 to {trained}",
            ctx=wanted,
            trained=trained,
        )
    return wanted
