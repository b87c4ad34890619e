"""Keys and values of earlier requests for later ones: from memory through the index, from below through a
store.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile

from apportion.core.clock import Clock
from apportion.engine.kv.blocks import BlockPool
from apportion.engine.kv.reuse import Entered, Found
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import Match, PrefixIndex
from apportion.engine.prefix.kept import KeptPrefixes, Stored
from apportion.engine.prefix.keys import chain_keys, root_key
from apportion.engine.prefix.reads import Reads
from apportion.engine.request import Request
from apportion.kernels.ops import Ints
from apportion.policies.retention import Pause, RetentionState

SAVE_S = 0.25  # a request that has ended waits so long for the store to take what it leaves
CLOSE_S = 10.0
MOST_PAUSED = 4096  # programs whose tool calls are waited for
MOST_WAITS = 100


@dataclass(slots=True)
class Waits:
    """How long requests waited that came back and found nothing of their context; the last count most."""

    mean_s: float = 0.0
    count: int = 0

    def add(self, seconds: float) -> None:
        self.count = min(self.count + 1, MOST_WAITS)
        self.mean_s += (seconds - self.mean_s) / self.count


@dataclass(slots=True)
class Loading:
    """Blocks that stored content is read into."""

    blocks: list[int]
    reads: list[Future[bool]] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return all(read.done() for read in self.reads)

    def num_good(self) -> int:
        """Blocks up to the first that could not be read."""
        return sum(1 for _ in takewhile(is_good, self.reads))


def is_good(read: Future[bool]) -> bool:
    return not read.cancelled() and read.exception() is None and read.result()


class PrefixReuse:
    """`engine.kv.reuse.Reuse` over a prefix index. For one thread, but for reads of the store.

    Args:
        fingerprint: of model, tokenizer and layout (`prefix.keys.fingerprint`).
        reads: of blocks that memory lacks; None where there is no store.
        saves: blocks are put into the store as they become full, and what it had no room for then when their
            request ends, so that a process that dies loses little; otherwise only when memory is short.
    """

    def __init__(
        self,
        index: PrefixIndex,
        pool: BlockPool,
        fingerprint: bytes,
        clock: Clock,
        cost: BlockCost,
        retention: RetentionState,
        *,
        reads: Reads | None = None,
        saves: bool = True,
        block_tokens: int = 32,
    ) -> None:
        self.index = index
        self._pool = pool
        self._fingerprint = fingerprint
        self._clock = clock
        self._cost = cost
        self._retention = retention
        self._reads = reads
        self._saves = saves
        self._block_tokens = block_tokens
        self._loading: dict[int, Loading] = {}
        self._late: list[Loading] = []  # broken off while a read was under way
        self._paused: dict[str, tuple[str, float]] = {}
        self._waits = Waits()

    def find(self, request: Request) -> Found:
        self._release_late()
        match, num_tokens = self._match(request), len(request.sequence.ids)
        ready = takewhile(
            lambda block: block is not None, match.blocks[: (num_tokens - 1) // self._block_tokens]
        )
        in_use = sum(self._pool.references(block) > 1 for block in ready if block is not None)
        return Found(min(match.num_blocks * self._block_tokens, num_tokens - 1), in_use)

    def enter(self, request: Request) -> Entered:
        came_back, match = self._come_back(request), self._match(request)
        if came_back and not match.num_blocks:
            self._waits.add(self._clock.now() - request.spent.added_s)
        held = self.index.hold(match)
        blocks = [block for block in takewhile(lambda block: block is not None, held) if block is not None]
        for block in held[len(blocks) :]:  # behind one that must be read
            if block is not None:
                self._pool.release(block)
        return Entered(blocks, len(held) - len(blocks))

    def load(self, request: Request, blocks: Sequence[int]) -> None:
        assert self._reads is not None
        first = self._num_before(request)
        keys = self._keys(request)[first : first + len(blocks)]
        loading = Loading(list(blocks))
        for key, block in zip(keys, blocks, strict=True):
            loading.reads.append(self._reads.submit(key, self._pool.view(block)))
        self._loading[request.id] = loading

    def loaded(self, request: Request) -> bool:
        return self._loading[request.id].is_over

    def take_loaded(self, request: Request) -> tuple[Sequence[int], Sequence[int]]:
        loading = self._loading.pop(request.id)
        num_good = loading.num_good()
        return loading.blocks[:num_good], loading.blocks[num_good:]

    def break_off(self, request: Request) -> Sequence[int]:
        loading = self._loading.pop(request.id)
        for read in loading.reads:
            read.cancel()
        if loading.is_over:
            return loading.blocks
        self._late.append(loading)
        return ()

    def wait(self, requests: Sequence[Request]) -> None:
        # Of whoever comes first. Looking after every single read would take the reads' own time.
        left = [[read for read in self._loading[request.id].reads if not read.done()] for request in requests]
        reads = min(left, key=len)
        if reads and self._reads is not None:
            self._reads.wait(reads)

    def keep(self, request: Request, first: int, blocks: Sequence[int]) -> Sequence[int]:
        kept = self._insert(request, first, blocks)
        if self._saves:
            self.index.save(self._keys(request)[first : first + len(blocks)])
        return kept

    def finished(self, request: Request) -> None:
        num_full = request.num_computed // self._block_tokens
        keys = self._keys(request)[:num_full]
        if self._saves:
            self.index.save(keys, SAVE_S)
        if request.tool:
            self._pause(request, keys)

    @property
    def num_reading(self) -> int:
        """Blocks that reads write to, those included that were broken off."""
        return sum(len(loading.blocks) for loading in [*self._loading.values(), *self._late])

    # --- from outside ---

    def kept_prefixes(self, store: Stored | None) -> KeptPrefixes:
        """What is kept here, and in the store on disk."""
        block_nbytes = self._pool.block_nbytes
        return KeptPrefixes(self.index, store, self._clock, self._block_tokens, block_nbytes)

    def root(self, salt: str) -> bytes:
        """The key before the first block of requests of a salt."""
        return root_key(self._fingerprint, salt)

    def keys_of(self, ids: Ints, salt: str) -> list[bytes]:
        """The keys of the blocks that tokens fill."""
        return chain_keys(ids, self.root(salt), self._block_tokens)

    def close(self) -> None:
        if self._reads is not None:
            self._reads.close()
            self._release_late()
        self.index.save_all(CLOSE_S)
        self.index.clear()

    # --- tool calls ---

    def _pause(self, request: Request, keys: Sequence[bytes]) -> None:
        """Pin what a tool call will come back for, as long as that is worth it."""
        tokens, now = request.num_computed, self._clock.now()
        pause = Pause(request.tool, tokens, self._cost.recompute_s(0, tokens), self._waits.mean_s)
        seconds = self._retention.time_to_live(pause)
        if seconds > 0:
            self.index.pin(keys, now + seconds)
        if request.program:
            self._paused.pop(request.program, None)
            self._paused[request.program] = (request.tool, now)
            if len(self._paused) > MOST_PAUSED:  # most programs end without a word
                del self._paused[next(iter(self._paused))]

    def _come_back(self, request: Request) -> bool:
        """Whether a request goes on where a tool call ended an answer."""
        paused = self._paused.pop(request.program, None) if request.program else None
        if paused is None:
            return False
        tool, since = paused
        self._retention.tool_took(tool, request.spent.added_s - since)
        return True

    # --- keys ---

    def _keys(self, request: Request) -> list[bytes]:
        """The names of the request's full blocks; new ones are added as it grows."""
        known, ids = request.keys, request.sequence.ids
        if len(ids) // self._block_tokens > len(known):
            root = known[-1] if known else root_key(self._fingerprint, request.salt)
            known += chain_keys(ids[len(known) * self._block_tokens :], root, self._block_tokens)
        return known

    def _match(self, request: Request) -> Match:
        return self.index.match(self._keys(request)[: len(request.sequence.ids) // self._block_tokens])

    def _num_before(self, request: Request) -> int:
        """Blocks that the request has before those that are loaded."""
        return request.num_computed // self._block_tokens

    def _insert(self, request: Request, first: int, blocks: Sequence[int]) -> list[int]:
        keys, ids, size = self._keys(request), request.sequence.ids, self._block_tokens
        kept = []
        for place, block in enumerate(blocks, first):
            parent = keys[place - 1] if place else root_key(self._fingerprint, request.salt)
            kept.append(self.index.insert(parent, keys[place], block, ids[place * size : (place + 1) * size]))
        return kept

    def _release_late(self) -> None:
        for loading in [loading for loading in self._late if loading.is_over]:
            self._late.remove(loading)
            for block in loading.blocks:
                self._pool.release(block)
