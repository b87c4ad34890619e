"""Blocks that a read still writes to when its request is cancelled come back, whoever waits for them."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import Future

import numpy as np
from tests.engine.scripted import BLOCK, ScriptedExecutor, continued, make_pool, make_request

from apportion.core.clock import VirtualClock
from apportion.engine.engine import Engine
from apportion.engine.kv import KvSpace
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import PrefixIndex
from apportion.engine.prefix.keys import fingerprint
from apportion.engine.prefix.reuse import PrefixReuse
from apportion.policies import RETENTIONS, SCHEDULERS


class Endless:
    """A store that has everything, and whose reads end when they are told to."""

    def __init__(self) -> None:
        self.reads: list[Future[bool]] = []

    def contains(self, key: bytes) -> bool:
        return not self.reads

    def look_up(self, keys: Collection[bytes]) -> None:
        """It knows."""

    def put(self, *args: object, **options: object) -> bool:
        return False

    def submit(self, key: bytes, memory: np.ndarray) -> Future[bool]:
        read: Future[bool] = Future()
        read.set_running_or_notify_cancel()
        self.reads.append(read)
        return read

    def wait(self, reads: Collection[Future[bool]]) -> None:
        """A moment later."""

    def close(self) -> None:
        """Nothing is under way."""


def test_blocks_of_a_read_that_was_broken_off_are_free_for_who_waits_when_it_ends() -> None:
    pool, clock, cost, store = make_pool(4), VirtualClock(), BlockCost(), Endless()
    retention = RETENTIONS.get("lru").state()
    index = PrefixIndex(pool, retention, clock, cost, store, BLOCK)
    name = fingerprint("model", "tokenizer", "layout")
    reuse = PrefixReuse(index, pool, name, clock, cost, retention, reads=store, block_tokens=BLOCK)
    engine = Engine(
        ScriptedExecutor(pool),
        KvSpace(pool, index),
        SCHEDULERS.get("chunked").state(),
        block_tokens=BLOCK,
        reuse=reuse,
        clock=clock,
    )
    first = engine.add(make_request(range(13), 3))
    engine.step()
    assert len(store.reads) == 3
    engine.cancel(first)
    waiting = engine.add(make_request(range(20, 33), 3))
    engine.step()
    assert not waiting.is_over
    assert reuse.num_reading == 3
    for read in store.reads:
        read.set_result(True)
    for _ in range(5):
        engine.step()
    assert waiting.sequence.output.tolist() == continued(range(20, 33), 3)
