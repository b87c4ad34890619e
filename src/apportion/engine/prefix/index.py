"""The prefix index: which blocks of finished and running requests are kept, found by what led to them.

A radix tree over blocks. A block's key names its whole prefix, so the tree is a table from keys to blocks in
which each knows its parent; only the leaves can be given up, so that what is kept is always a prefix.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from apportion.core.clock import Clock
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.ports import Blocks, BlockStore
from apportion.policies.retention import KeptView, Rank, RetentionState


@dataclass(frozen=True, slots=True)
class Match:
    """How much of a prompt is kept.

    Attributes:
        keys: of the prompt's blocks, all that were asked for.
        blocks: the block of memory that holds each of the first of them, or None where the store has it.
    """

    keys: tuple[bytes, ...]
    blocks: tuple[int | None, ...]

    @property
    def num_blocks(self) -> int:
        """Blocks that need not be computed."""
        return len(self.blocks)

    @property
    def num_stored(self) -> int:
        """Those of them that must be read first."""
        return sum(block is None for block in self.blocks)


@dataclass(slots=True)
class PrefixCounters:
    """Since the index was made. A hit is a block that a request took over from memory, a reload one that it
    had to read from the store, a miss one that it had to compute.
    """

    hits: int = 0
    reloads: int = 0
    misses: int = 0
    tokens_reused: int = 0
    inserted: int = 0
    duplicates: int = 0
    evictions: int = 0
    demotions: int = 0
    demotions_refused: int = 0
    pins_broken: int = 0


@dataclass(frozen=True, slots=True)
class KeptBlock:
    """What there is to know of a kept block; times by the index's clock."""

    key: bytes
    parent: bytes
    num_before: int
    last_use_s: float
    num_uses: int
    pinned_until_s: float


@dataclass(slots=True, eq=False)
class _Node:
    """A kept block."""

    key: bytes
    parent: bytes
    block: int
    ids: npt.NDArray[np.int32]
    number: int
    num_before: int
    last_use_s: float
    num_uses: int = 1
    pinned_until_s: float = 0.0
    priority: int = 0


class PrefixIndex:
    """Keeps a share of each block that is inserted, until room is needed.

    For one thread. The same calls in the same order give up the same blocks.

    Args:
        pool: the memory; a block that it counts one reference to is used by nothing but the index.
        retention: what goes first.
        clock: tells last uses and the end of pins.
        cost: what a block takes to compute or to read again.
        store: where blocks that must go are put first, if it lacks them.
        block_tokens: positions of a block.
    """

    def __init__(
        self,
        pool: Blocks,
        retention: RetentionState,
        clock: Clock,
        cost: BlockCost,
        store: BlockStore | None = None,
        block_tokens: int = 32,
    ) -> None:
        self._pool = pool
        self._retention = retention
        self._clock = clock
        self._cost = cost
        self._store = store
        self._block_tokens = block_tokens
        self._nodes: dict[bytes, _Node] = {}
        self._num_children: dict[bytes, int] = {}
        self._leaves: dict[bytes, _Node] = {}
        self._next_number = 0
        self.counters = PrefixCounters()

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, key: bytes) -> bool:
        return key in self._nodes

    def match(self, keys: Sequence[bytes]) -> Match:
        """The longest run of blocks, from the first on, that memory or the store has. Changes nothing."""
        blocks: list[int | None] = []
        if self._store is not None:
            self._store.look_up([key for key in keys if key not in self._nodes])
        for key in keys:
            node = self._nodes.get(key)
            if node is None and not (self._store is not None and self._store.contains(key)):
                break
            blocks.append(None if node is None else node.block)
        return Match(tuple(keys), tuple(blocks))

    def hold(self, match: Match) -> list[int | None]:
        """Take a share of each block of the match that is in memory; None stands for those that must be read.
        Every share is given back with the pool's `release`.
        """
        now = self._clock.now()
        held: list[int | None] = []
        for key in match.keys[: match.num_blocks]:
            node = self._nodes.get(key)  # not the match's: time may have gone by since
            if node is not None:
                self._pool.share(node.block)
                node.last_use_s, node.num_uses = now, node.num_uses + 1
            held.append(None if node is None else node.block)
        self._count(match, held)
        return held

    def insert(self, parent: bytes, key: bytes, block: int, ids: npt.ArrayLike) -> int:
        """Keep `block`, whose content is complete and will not change, for its user and for others.

        Args:
            parent: the key of the block before it, or the root.
            ids: [block_tokens] its tokens, which the store writes down with it.

        Returns:
            The block that is kept for the key: this one, or the one that was kept already.
        """
        known = self._nodes.get(key)
        if known is not None:
            self.counters.duplicates += known.block != block
            known.last_use_s = self._clock.now()
            return known.block
        self._pool.keep(block)
        before = self._nodes.get(parent)
        depth = 0 if before is None else before.num_before + self._block_tokens
        self._add(
            _Node(
                key,
                parent,
                block,
                np.array(ids, np.int32),
                self._next_number,
                depth,
                self._clock.now(),
            )
        )
        return block

    def pin(self, keys: Sequence[bytes], until_s: float, priority: int | None = None) -> int:
        """Ask for these to stay until the clock shows `until_s` (0: no longer), and give them a priority.
        How many of them there are. A pin gives way only when there is nothing else left to give up.
        """
        nodes = [node for node in map(self._nodes.get, keys) if node is not None]
        for node in nodes:
            node.pinned_until_s = until_s
            if priority is not None:
                node.priority = priority
        return len(nodes)

    def make_room(self, num_blocks: int) -> int:
        """Give up blocks that nothing else uses until so many are free that were not, the one worth least
        first and children before parents. How many were freed: fewer when there were not so many.
        """
        now = self._clock.now()
        waiting: list[tuple[Rank, _Node]] = [
            (self._rank(node, now), node) for node in self._leaves.values() if self._is_spare(node)
        ]
        heapq.heapify(waiting)
        freed = 0
        while waiting and freed < num_blocks:
            rank, node = heapq.heappop(waiting)
            self.counters.pins_broken += rank[0]
            self._demote(node)
            self._remove(node)
            freed += 1
            parent = self._leaves.get(node.parent)
            if parent is not None and self._is_spare(parent):
                heapq.heappush(waiting, (self._rank(parent, now), parent))
        self.counters.evictions += freed
        return freed

    def save(self, keys: Sequence[bytes], timeout_s: float = 0.0) -> int:
        """Put those of the blocks into the store that it lacks, and keep them. How many it took: what it is
        given faster than it writes it refuses, once it has been waited for so long in all.
        """
        deadline = self._clock.now() + timeout_s
        nodes = [node for node in map(self._nodes.get, keys) if node is not None]
        return sum(self._demote(node, max(deadline - self._clock.now(), 0.0)) for node in nodes)

    def save_all(self, timeout_s: float = 0.0) -> int:
        """The same for everything that is kept, parents before children."""
        return self.save(sorted(self._nodes, key=lambda key: self._nodes[key].num_before), timeout_s)

    def blocks(self) -> list[KeptBlock]:
        """All that are kept, parents before children."""
        return [
            KeptBlock(
                node.key, node.parent, node.num_before, node.last_use_s, node.num_uses, node.pinned_until_s
            )
            for node in self._nodes.values()
        ]

    def drop(self, keys: Collection[bytes]) -> set[bytes]:
        """Give up those of them that nothing else uses, pinned or not, without putting them into the store.
        Which it were; one that something kept continues stays.
        """
        nodes = [node for node in map(self._nodes.get, keys) if node is not None]
        dropped = set()
        for node in sorted(nodes, key=lambda node: -node.num_before):
            if node.key in self._leaves and self._is_spare(node):
                self._remove(node)
                dropped.add(node.key)
        return dropped

    def clear(self) -> None:
        """Give back every share, whether blocks are used or not."""
        for node in self._nodes.values():
            self._pool.forget(node.block)
        self._nodes.clear()
        self._num_children.clear()
        self._leaves.clear()

    def _add(self, node: _Node) -> None:
        self._next_number += 1
        self._nodes[node.key] = node
        self._num_children[node.parent] = self._num_children.get(node.parent, 0) + 1
        self._leaves.pop(node.parent, None)
        if node.key not in self._num_children:
            self._leaves[node.key] = node
        self.counters.inserted += 1

    def _remove(self, node: _Node) -> None:
        del self._nodes[node.key], self._leaves[node.key]
        self._pool.forget(node.block)
        left = self._num_children[node.parent] - 1
        if left:
            self._num_children[node.parent] = left
            return
        del self._num_children[node.parent]
        parent = self._nodes.get(node.parent)
        if parent is not None:
            self._leaves[parent.key] = parent

    def _demote(self, node: _Node, timeout_s: float = 0.0) -> bool:
        """Put it into the store if that lacks it. Whether it was put."""
        if self._store is None or self._store.contains(node.key):
            return False
        content = self._pool.view(node.block)
        taken = self._store.put(node.key, node.parent, node.num_before, node.ids, content, timeout_s)
        self.counters.demotions += taken
        self.counters.demotions_refused += not taken
        return taken

    def _is_spare(self, node: _Node) -> bool:
        return self._pool.references(node.block) == 1

    def _rank(self, node: _Node, now: float) -> Rank:
        nbytes = self._pool.view(node.block).nbytes
        stored = self._store is not None and self._store.contains(node.key)
        view = KeptView(
            key=node.number,
            num_tokens=self._block_tokens,
            num_before=node.num_before,
            nbytes=nbytes,
            last_use_s=node.last_use_s,
            num_uses=node.num_uses,
            recompute_s=self._cost.recompute_s(node.num_before, self._block_tokens),
            reload_s=self._cost.reload_s(nbytes) if stored else None,
            pinned_until_s=node.pinned_until_s,
            priority=node.priority,
        )
        return self._retention.rank(view, now)

    def _count(self, match: Match, held: Sequence[int | None]) -> None:
        reloads = sum(block is None for block in held)
        self.counters.hits += len(held) - reloads
        self.counters.reloads += reloads
        self.counters.misses += len(match.keys) - len(held)
        self.counters.tokens_reused += len(held) * self._block_tokens
