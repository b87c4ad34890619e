"""A server that stops."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.serve.asgi import HOST, asked, echo

from apportion.serve.access import Access
from apportion.serve.drain import Draining, Work


def test_nothing_new_is_taken_and_what_runs_is_counted_to_its_end() -> None:
    work, told = Work(), {"stop": False}
    gate = asyncio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    app = Draining(slow, lambda: told["stop"], work)

    async def story() -> list[int]:
        first = asyncio.create_task(asked(app, "POST", "/", [HOST]))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert work.num_inside == 1
        told["stop"] = True
        second = await asked(app, "POST", "/", [HOST])
        assert second.headers["retry-after"].isdigit()
        gate.set()
        looks = await asked(app, "GET", "/health", [HOST])
        opened = await asked(app, "POST", "/", [HOST], **{"apportion.access": Access.OPEN})
        return [(await first).status, second.status, looks.status, opened.status]

    assert asyncio.run(story()) == [200, 503, 200, 200]
    assert work.num_inside == 0


def test_a_request_that_fails_or_is_cancelled_is_not_counted_for_ever() -> None:
    work = Work()

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    async def story() -> None:
        for app in (broken, endless):
            task = asyncio.create_task(asked(Draining(app, lambda: False, work), "POST", "/", [HOST]))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert work.num_inside == 0
