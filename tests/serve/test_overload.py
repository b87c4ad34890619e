"""More requests than can be answered: as many as can be are, the others are told when to come again, and
memory stays as it is. The server is a process of its own, or its clients would take its time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.models.tiny import tiny_gguf
from tests.serve.programs import program

BODY = {"prompt": "Once upon a time", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
SECONDS = 1.5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """An address, and the number of the process behind it."""
    model = tiny_gguf("llama", tmp_path_factory.mktemp("models"))
    with program(model, "--concurrency", "2", "--limit", "queue=4", "--log-level", "warning") as running:
        yield running.ready(), running.process.pid


@dataclass
class Outcome:
    statuses: Counter[int] = field(default_factory=Counter)
    waits: list[str] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def goodput(self) -> float:
        """Answers for a second of the server's processor time: clients, and whatever else the machine does,
        take of the clock's.
        """
        return self.statuses[200] / self.cpu_s


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def closed(url: str, clients: int) -> Outcome:
    """As many clients, each of which waits for its answer before it asks again."""
    outcome, began = Outcome(), time.monotonic()

    async def ask_on(client: httpx.AsyncClient) -> None:
        while time.monotonic() < began + SECONDS:
            outcome.statuses[(await client.post(f"{url}/v1/completions", json=BODY)).status_code] += 1

    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(*(ask_on(client) for _ in range(clients)))
    return outcome


async def opened(url: str, rate: float) -> Outcome:
    """So many requests a second, whatever becomes of them."""
    outcome, began = Outcome(), time.monotonic()

    async def ask(client: httpx.AsyncClient) -> None:
        said = await client.post(f"{url}/v1/completions", json=BODY)
        outcome.statuses[said.status_code] += 1
        if said.status_code == 429:
            outcome.waits.append(said.headers.get("retry-after", ""))

    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=100)) as client:
        tasks = []
        while (passed := time.monotonic() - began) < SECONDS:
            tasks += [asyncio.create_task(ask(client)) for _ in range(int(passed * rate) - len(tasks))]
            await asyncio.sleep(0.005)
        await asyncio.gather(*tasks)
    return outcome


def measured(load: Coroutine[Any, Any, Outcome], process: int) -> Outcome:
    before = cpu_s(process)
    outcome = asyncio.run(load)
    outcome.cpu_s = cpu_s(process) - before
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 5])
def test_with_more_than_it_can_do_it_does_what_it_can(times: int, server: tuple[str, int]) -> None:
    url, process = server
    asyncio.run(closed(url, 4))  # what grows once grows here
    before = resident(process)
    # On a machine that others use, processor time too is worth more or less from second to second.
    for _ in range(3):
        usual = measured(closed(url, 4), process)
        outcome = measured(opened(url, times * usual.statuses[200] / SECONDS), process)
        assert set(outcome.statuses) <= {200, 429}
        assert outcome.statuses[429] > 0
        assert all(wait.isdigit() and int(wait) >= 1 for wait in outcome.waits)
        if outcome.goodput > usual.goodput / 2:
            break
    else:
        pytest.fail(f"{outcome} {usual}")
    assert resident(process) - before < 16 * 1024**2
    state = httpx.get(f"{url}/v1/apportion/status").json()
    assert state["requests"] == []
