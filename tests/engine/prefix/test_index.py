"""The prefix index: what is kept is found, whole prefixes stay whole, and the right ones go."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from tests.engine.prefix.pool import CheckedPool

from apportion.core.clock import VirtualClock
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.prefix.index import Match, PrefixIndex
from apportion.engine.prefix.keys import chain_keys, fingerprint, root_key
from apportion.policies import RETENTIONS

ROOT = root_key(fingerprint("m", "t", "l"))
TOKENS = 4  # of a block


class RememberingStore:
    """Takes what it is given, as long as it is told to."""

    def __init__(self) -> None:
        self.payloads: dict[bytes, bytes] = {}
        self.puts: list[bytes] = []
        self.looked_up: list[bytes] = []
        self.takes = True

    def put(
        self,
        key: bytes,
        parent: bytes,
        num_before: int,
        ids: npt.NDArray[np.int32],
        payload: npt.NDArray[np.uint8],
        timeout_s: float = 0.0,
    ) -> bool:
        assert key == chain_keys(ids, parent, TOKENS)[0]
        assert num_before % TOKENS == 0
        self.puts.append(key)
        if self.takes:
            self.payloads[key] = payload.tobytes()
        return self.takes

    def look_up(self, keys: Sequence[bytes]) -> None:
        self.looked_up += keys

    def contains(self, key: bytes) -> bool:
        return key in self.payloads


class House:
    """An index over a pool, and requests that compute what they do not find."""

    def __init__(self, num_blocks: int = 16, store: bool = False, policy: str = "lru") -> None:
        self.pool = CheckedPool(num_blocks)
        self.clock = VirtualClock()
        self.store = RememberingStore() if store else None
        self.index = PrefixIndex(
            self.pool, RETENTIONS.choose(policy).state(), self.clock, BlockCost(), self.store, TOKENS
        )

    def compute(self, ids: Sequence[int]) -> list[int]:
        """The blocks of a request that has run over `ids`: the found ones, then its own."""
        self.clock.advance(1.0)
        keys = chain_keys(ids, ROOT, TOKENS)
        match = self.index.match(keys)
        blocks: list[int] = []
        for i, held in enumerate(self.index.hold(match)):
            blocks.append(self._take(keys[i]) if held is None else held)
        blocks += [self._take(key) for key in keys[len(blocks) :]]
        for i, block in enumerate(blocks):
            parent = keys[i - 1] if i else ROOT
            assert self.index.insert(parent, keys[i], block, ids[TOKENS * i : TOKENS * (i + 1)]) == block
        return blocks

    def finish(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            self.pool.release(block)

    def run(self, ids: Sequence[int]) -> None:
        self.finish(self.compute(ids))

    def _take(self, key: bytes) -> int:
        block = self.pool.take()
        if block is None:
            assert self.index.make_room(1) == 1
            block = self.pool.take()
        assert block is not None
        self.pool.view(block)[:] = np.frombuffer(key, np.uint8)
        return block

    def num_kept(self, ids: Sequence[int]) -> int:
        return self.index.match(chain_keys(ids, ROOT, TOKENS)).num_blocks


A, B, C = list(range(12)), list(range(100, 112)), list(range(200, 212))


def test_a_second_request_finds_what_the_first_left() -> None:
    house = House()
    first = house.compute(A)
    assert house.compute([*A, 1, 2, 3, 4])[:3] == first
    assert house.index.counters.hits == 3
    assert house.index.counters.misses == 4
    assert house.index.counters.tokens_reused == 12


def test_a_request_that_branches_off_shares_exactly_the_common_blocks() -> None:
    house = House()
    first = house.compute(A)
    second = house.compute([*A[:8], 99, 98, 97, 96])
    assert second[:2] == first[:2]
    assert second[2] != first[2]


def test_matching_changes_nothing() -> None:
    house = House()
    house.run(A)
    house.num_kept(A)
    assert house.pool.references(0) == 1
    assert house.index.counters.hits == 0


def test_a_match_stops_at_the_first_gap() -> None:
    house = House()
    house.run(A)
    keys = chain_keys(A, ROOT, TOKENS)
    assert house.index.match([keys[0], b"?" * 16, keys[1]]).num_blocks == 1


def test_a_block_in_use_is_never_given_up() -> None:
    house = House()
    blocks = house.compute(A)
    assert house.pool.num_idle == 0
    assert house.index.make_room(3) == 0
    house.finish(blocks)
    assert house.pool.num_idle == 3
    assert house.index.make_room(3) == 3
    assert house.pool.num_free == 16


def test_children_go_before_parents() -> None:
    house = House()
    house.run(A)
    for left in (2, 1, 0):
        assert house.index.make_room(1) == 1
        assert house.num_kept(A) == left


def test_the_prefix_of_what_is_in_use_stays() -> None:
    house = House()
    house.run(A)
    blocks = house.compute([*A[:8], 7, 7, 7, 7])
    assert house.index.make_room(9) == 1
    assert house.num_kept(A) == 2
    house.finish(blocks)


def test_a_whole_old_branch_goes_before_a_block_of_a_newer_one() -> None:
    house = House()
    house.run(A)
    house.run(B)
    assert house.index.make_room(3) == 3
    assert (house.num_kept(A), house.num_kept(B)) == (0, 3)


def test_no_more_goes_than_was_asked_for() -> None:
    house = House()
    house.run(A)
    assert house.index.make_room(0) == 0
    assert house.index.make_room(2) == 2
    assert len(house.index) == 1
    assert house.index.make_room(5) == 1


def test_two_that_computed_the_same_keep_one_of_them() -> None:
    house = House()
    house.run(A)
    keys = chain_keys(A, ROOT, TOKENS)
    kept = house.index.match(keys).blocks
    mine = house.pool.take()
    assert mine is not None
    assert house.index.insert(ROOT, keys[0], mine, A[:4]) == kept[0]
    assert house.pool.references(mine) == 1
    assert house.index.counters.duplicates == 1


def test_what_is_pinned_goes_last_and_is_counted() -> None:
    house = House()
    house.run(A)
    house.run(B)
    assert house.index.pin(chain_keys(A, ROOT, TOKENS), until_s=100.0) == 3
    assert house.index.make_room(3) == 3
    assert (house.num_kept(A), house.num_kept(B)) == (3, 0)
    assert house.index.counters.pins_broken == 0
    assert house.index.make_room(1) == 1
    assert house.index.counters.pins_broken == 1


def test_a_pin_ends_when_its_time_is_over() -> None:
    house = House()
    house.run(A)
    house.index.pin(chain_keys(A, ROOT, TOKENS), until_s=10.0)
    house.clock.advance(20.0)
    house.run(B)
    house.index.make_room(1)
    assert (house.num_kept(A), house.num_kept(B)) == (2, 3)


def test_a_higher_priority_stays_longer_than_a_later_use() -> None:
    house = House()
    house.run(A)
    house.run(B)
    house.index.pin(chain_keys(A, ROOT, TOKENS), until_s=0.0, priority=1)
    house.index.make_room(3)
    assert (house.num_kept(A), house.num_kept(B)) == (3, 0)


def test_what_goes_is_demoted_first_with_its_content() -> None:
    house = House(store=True)
    house.run(A)
    house.index.make_room(3)
    keys = chain_keys(A, ROOT, TOKENS)
    assert house.store is not None
    assert house.store.payloads == {key: key for key in keys}
    assert house.num_kept(A) == 3
    assert house.index.match(keys).num_stored == 3
    assert house.index.counters.demotions == 3


def test_a_match_asks_the_store_once_for_all_that_memory_lacks() -> None:
    house = House(store=True)
    assert house.store is not None
    house.run(A)
    house.store.looked_up.clear()
    keys = chain_keys([*A, *B], ROOT, TOKENS)
    house.index.match(keys)
    assert house.store.looked_up == keys[3:]


def test_a_clean_block_is_never_written_twice() -> None:
    house = House(store=True)
    house.run(A)
    assert house.index.save_all() == 3
    assert house.index.save_all() == 0
    house.index.make_room(3)
    house.run(A)
    house.index.make_room(3)
    assert house.store is not None
    assert len(house.store.puts) == 3


def test_a_store_that_refuses_costs_the_content_and_nothing_else() -> None:
    house = House(store=True)
    assert house.store is not None
    house.store.takes = False
    house.run(A)
    assert house.index.make_room(3) == 3
    assert house.index.counters.demotions_refused == 3
    assert house.num_kept(A) == 0


def test_saving_puts_parents_before_children() -> None:
    house = House(store=True)
    house.run(A)
    house.index.save_all()
    assert house.store is not None
    assert house.store.puts == chain_keys(A, ROOT, TOKENS)


def test_holding_what_was_given_up_since_says_that_it_is_gone() -> None:
    house = House()
    house.run(A)
    match = house.index.match(chain_keys(A, ROOT, TOKENS))
    house.index.make_room(1)
    assert house.index.hold(match)[2] is None
    assert house.pool.references(0) == 2


def test_clearing_gives_back_every_share() -> None:
    house = House()
    blocks = house.compute(A)
    house.index.clear()
    assert len(house.index) == 0
    assert [house.pool.references(block) for block in blocks] == [1, 1, 1]


def test_an_empty_match_holds_nothing() -> None:
    assert House().index.hold(Match((), ())) == []


def trace(seed: int, policy: str) -> tuple[list[tuple[bytes, ...]], House]:
    """What is kept after each of many requests that share prefixes, and the house."""
    rng = random.Random(seed)
    house = House(num_blocks=20, store=seed % 2 == 0, policy=policy)
    running: list[list[int]] = []
    kept = []
    for _ in range(60):
        if running and (len(running) == 3 or rng.random() < 0.5):
            house.finish(running.pop(rng.randrange(len(running))))
        ids = [token for _ in range(rng.randint(1, 5)) for token in [rng.randint(0, 2)] * TOKENS]
        running.append(house.compute(ids))
        if rng.random() < 0.3:
            until = house.clock.now() + rng.choice([0.0, 5.0])
            house.index.pin(chain_keys(ids, ROOT, TOKENS), until, rng.randint(0, 1))
        kept.append(tuple(sorted(key for key in house.index._nodes)))
        assert_sound(house)
    for blocks in running:
        house.finish(blocks)
    return kept, house


def assert_sound(house: House) -> None:
    """Prefixes are whole, counts agree, and every block holds what its key says."""
    nodes = house.index._nodes
    assert house.index._num_children == count(node.parent for node in nodes.values())
    for key, node in nodes.items():
        assert node.parent == ROOT or node.parent in nodes
        assert house.pool.view(node.block).tobytes() == key
        assert (key in house.index._leaves) == (key not in house.index._num_children)


def count(parents: object) -> dict[bytes, int]:
    counts: dict[bytes, int] = {}
    for parent in parents:  # type: ignore[attr-defined]
        counts[parent] = counts.get(parent, 0) + 1
    return counts


@pytest.mark.parametrize("policy", list(RETENTIONS))
@pytest.mark.parametrize("seed", range(6))
def test_many_requests_leave_it_sound_and_every_share_returned(policy: str, seed: int) -> None:
    kept, house = trace(seed, policy)
    assert (kept, len(house.index)) == (trace(seed, policy)[0], len(house.index))
    assert house.pool.num_idle == len(house.index)
    house.index.make_room(1000)
    assert house.pool.num_free == 20
