from __future__ import annotations

import numpy as np
import pytest
from tests.engine.scripted import make_pool, make_space

from apportion.engine.kv import BlockPool, KvSpace


def test_blocks_are_taken_all_or_none() -> None:
    pool = make_pool(3)
    assert pool.take(4) is None
    assert pool.num_free == 3
    assert sorted(pool.take(3)) == [0, 1, 2]


def test_a_block_is_free_when_its_last_holder_lets_go() -> None:
    pool = make_pool(2)
    (block,) = pool.take()
    pool.share(block)
    pool.release(block)
    assert (pool.num_free, pool.references(block)) == (1, 1)
    pool.release(block)
    assert (pool.num_free, pool.references(block)) == (2, 0)


def test_what_was_given_back_last_is_taken_first() -> None:
    pool = make_pool(9)
    for _ in range(5):
        (block,) = pool.take()
        pool.release(block)
    assert block == 0


def test_a_copy_has_the_content_and_is_its_own() -> None:
    pool = make_pool(2)
    source, target = pool.take(2)
    pool.view(source)[:] = 7
    pool.copy(source, target)
    pool.view(source)[:] = 8
    assert np.all(pool.view(target) == 7)


def test_shrinking_takes_free_blocks_out_of_use() -> None:
    pool = make_pool(4)
    (block,) = pool.take()
    assert pool.shrink(9) == 3
    assert (pool.num_blocks, pool.num_free) == (1, 0)
    pool.release(block)
    assert pool.take() == [block]


def test_what_is_promised_cannot_be_granted_again() -> None:
    space = make_space(5)
    room = space.grant(3)
    assert room is not None
    assert space.grant(3) is None
    assert space.available == 2
    space.pool.release(room.take()[0])
    room.close()
    assert (space.available, space.promised) == (5, 0)


def test_a_part_of_a_room_is_a_room() -> None:
    space = make_space(5)
    room = space.grant(4)
    assert room is not None
    part = room.split(1)
    assert (room.left, part.left, space.promised) == (3, 1, 4)
    with pytest.raises(AssertionError):
        part.take(2)


class Keeping:
    """Keeps all blocks until room is needed."""

    def __init__(self, pool: BlockPool) -> None:
        self.pool, self.blocks = pool, pool.take(pool.num_free)
        for block in self.blocks:
            pool.keep(block)
            pool.release(block)

    def make_room(self, num_blocks: int) -> int:
        for _ in range(num_blocks):
            self.pool.forget(self.blocks.pop())
        return num_blocks


def test_a_kept_block_is_idle_while_nobody_uses_it() -> None:
    pool = make_pool(2)
    (block,) = pool.take()
    pool.keep(block)
    assert pool.num_idle == 0
    pool.release(block)
    assert (pool.num_idle, pool.num_free) == (1, 1)
    pool.share(block)
    assert pool.num_idle == 0
    pool.forget(block)
    assert (pool.num_idle, pool.num_free) == (0, 1)
    pool.release(block)
    assert (pool.num_idle, pool.num_free) == (0, 2)


def test_what_is_kept_gives_way_only_when_a_block_is_taken() -> None:
    pool = make_pool(4)
    kept = Keeping(pool)
    space = KvSpace(pool, kept)
    room = space.grant(3)
    assert room is not None
    assert pool.num_idle == 4
    room.take(2)
    assert pool.num_idle == 2
    assert space.available == 1


def test_shrinking_leaves_what_was_promised() -> None:
    pool = make_pool(6)
    space = KvSpace(pool, Keeping(pool))
    room = space.grant(4)
    assert room is not None
    assert space.shrink(6) == 2
    assert len(room.take(4)) == 4
