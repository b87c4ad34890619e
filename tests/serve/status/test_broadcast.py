from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest

from apportion.core.errors import Overloaded
from apportion.serve.status.broadcast import MOST_BEHIND, MOST_VIEWERS, Broadcast

EVERY_S = 0.01


class Counting:
    """Snapshots with numbers."""

    def __init__(self) -> None:
        self.num_made = 0
        self.is_over = False

    def make(self) -> Any:
        self.num_made += 1
        return self.num_made

    def broadcast(self) -> Broadcast:
        return Broadcast(self.make, lambda: self.is_over, EVERY_S)


def run(test: Callable[[Counting, Broadcast], Any]) -> None:
    async def inside() -> None:
        counting = Counting()
        await asyncio.wait_for(test(counting, counting.broadcast()), 10)

    asyncio.run(inside())


async def some(shown: AsyncIterator[Any], count: int) -> list[Any]:
    found = []
    async for snapshot in shown:
        found.append(snapshot)
        if len(found) == count:
            break
    return found


def test_the_first_snapshot_is_there_at_once_and_others_follow() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        async with aclosing(broadcast.watch(broadcast.join())) as shown:
            assert await some(shown, 3) == [1, 2, 3]

    run(test)


def test_a_snapshot_is_made_once_for_all_who_watch() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        viewers = [broadcast.join() for _ in range(20)]
        found = await asyncio.gather(*(some(broadcast.watch(viewer), 5) for viewer in viewers))
        assert counting.num_made < 20 + 10  # a first one for each
        assert all(one[1:] == found[0][1:] for one in found)

    run(test)


def test_nothing_is_made_while_nobody_watches() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        async with aclosing(broadcast.watch(broadcast.join())) as shown:
            await some(shown, 2)
        assert broadcast.num_viewers == 0
        await asyncio.sleep(3 * EVERY_S)
        made = counting.num_made
        await asyncio.sleep(5 * EVERY_S)
        assert counting.num_made == made
        async with aclosing(broadcast.watch(broadcast.join())) as shown:  # and somebody can come again
            assert len(await some(shown, 3)) == 3

    run(test)


def test_a_viewer_that_does_not_keep_up_is_let_go_and_others_are_not() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        slow, quick = broadcast.join(), broadcast.join()
        assert len(await some(broadcast.watch(quick), 3 * MOST_BEHIND)) == 3 * MOST_BEHIND
        assert slow.is_over
        assert [snapshot async for snapshot in broadcast.watch(slow)] == []

    run(test)


def test_everybody_goes_when_the_server_stops() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        viewers = [broadcast.join() for _ in range(3)]
        tasks = [asyncio.create_task(some(broadcast.watch(viewer), 1000)) for viewer in viewers]
        await asyncio.sleep(3 * EVERY_S)
        counting.is_over = True
        assert all(len(found) < 1000 for found in await asyncio.gather(*tasks))
        assert broadcast.num_viewers == 0

    run(test)


def test_as_many_may_watch_as_there_is_room_for() -> None:
    async def test(counting: Counting, broadcast: Broadcast) -> None:
        for _ in range(MOST_VIEWERS):
            broadcast.join()
        with pytest.raises(Overloaded):
            broadcast.join()

    run(test)
