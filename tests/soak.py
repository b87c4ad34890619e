"""A server under mixed requests for as long as is wanted: memory must not grow, nothing may be left held, and
every answer that can be checked is the one it was at the beginning.

    python -m tests.soak --minutes 30

Stops by itself. The status is 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from tests.models.tiny import tiny_gguf
from tests.serve.programs import program

CHECKED = {"prompt": "Once upon a time", "max_tokens": 32, "temperature": 0, "ignore_eos": True}
WARM_UP = 0.25  # of the time: caches fill
MOST_GROWTH_NBYTES = 8 * 1024**2  # over the rest of it
CLIENTS = 6
WORDS = (
    "once",
    "upon",
    "a",
    "time",
    "there",
    "was",
    "an",
    "apple",
    "that",
    "fell",
    "far",
    "from",
    "its",
    "tree",
)


@dataclass
class Soak:
    """What came of it."""

    url: str
    pid: int
    random: random.Random
    expected: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)

    def prompt(self) -> str:
        return " ".join(self.random.choices(WORDS, k=self.random.randrange(1, 25)))


Act = Callable[[Soak, httpx.AsyncClient], Awaitable[str]]


async def checked(soak: Soak, client: httpx.AsyncClient) -> str:
    """An answer that is known."""
    said = await client.post("/v1/completions", json=CHECKED)
    if said.status_code == 200 and said.json()["choices"][0]["text"] != soak.expected:
        soak.wrong.append("another answer than at the beginning")
    return str(said.status_code)


async def sampled(soak: Soak, client: httpx.AsyncClient) -> str:
    body = {
        "prompt": soak.prompt(),
        "max_tokens": soak.random.randrange(1, 40),
        "n": soak.random.randrange(1, 4),
    }
    return str((await client.post("/v1/completions", json=body)).status_code)


async def chatted(soak: Soak, client: httpx.AsyncClient) -> str:
    messages = [{"role": "user", "content": soak.prompt()}]
    body = {"messages": messages, "max_tokens": 16, "response_format": {"type": "json_object"}}
    return str((await client.post("/v1/chat/completions", json=body)).status_code)


async def left(soak: Soak, client: httpx.AsyncClient) -> str:
    """Goes away in the middle of a stream."""
    body = {"prompt": soak.prompt(), "max_tokens": 60, "stream": True, "ignore_eos": True}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        stop_after = soak.random.randrange(1, 10)
        async for _ in answer.aiter_lines():
            stop_after -= 1
            if not stop_after:
                break
    return "left"


async def nonsense(soak: Soak, client: httpx.AsyncClient) -> str:
    bodies = [
        b"{",
        b"[]",
        b'{"prompt": 3}',
        b'{"prompt": "a", "regex": "(("}',
        b'{"prompt": "%s"}' % (b"x" * 9000),
    ]
    headers = {"content-type": "application/json"}
    said = await client.post("/v1/completions", content=soak.random.choice(bodies), headers=headers)
    if not 400 <= said.status_code < 500:
        soak.wrong.append(f"nonsense was answered with {said.status_code}")
    return "refused"


async def looked(soak: Soak, client: httpx.AsyncClient) -> str:
    return str(
        (await client.get(soak.random.choice(["/metrics", "/v1/apportion/status", "/", "/none"]))).status_code
    )


ACTS: tuple[Act, ...] = (checked, sampled, sampled, chatted, left, nonsense, looked)


async def run(soak: Soak, seconds: float) -> None:
    """Clients that do this and that until the time is over."""
    end = time.monotonic() + seconds

    async def act_on() -> None:
        async with httpx.AsyncClient(base_url=soak.url, timeout=60) as client:
            while time.monotonic() < end:
                act = soak.random.choice(ACTS)
                soak.outcomes[f"{act.__name__} {await act(soak, client)}"] += 1

    async def watch() -> None:
        while time.monotonic() < end:
            pages = int(Path(f"/proc/{soak.pid}/statm").read_text().split()[1])
            soak.resident.append((time.monotonic(), pages * 4096))
            await asyncio.sleep(min(1.0, seconds / 60))

    async with httpx.AsyncClient(base_url=soak.url, timeout=60) as client:
        soak.expected = (await client.post("/v1/completions", json=CHECKED)).json()["choices"][0]["text"]
    await asyncio.gather(watch(), *(act_on() for _ in range(CLIENTS)))


def growth(resident: list[tuple[float, int]]) -> float:
    """Bytes that the line through the later measurements rises by over their time."""
    later = np.array(resident[int(len(resident) * WARM_UP) :], float)
    slope = np.polyfit(later[:, 0] - later[0, 0], later[:, 1], 1)[0]
    return float(slope * (later[-1, 0] - later[0, 0]))


def still_held(url: str) -> list[str]:
    """What a server at rest should not hold."""
    give_up = time.monotonic() + 20
    while httpx.get(f"{url}/v1/apportion/status").json()["requests"]:
        if time.monotonic() > give_up:
            return ["requests that nobody waits for"]
        time.sleep(0.1)
    kv = httpx.get(f"{url}/v1/apportion/status").json()["models"][0]["kv"]
    if kv["free_blocks"] + kv["kept_blocks"] < kv["blocks"]:
        return [f"blocks that nobody uses: {kv}"]
    return []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = tiny_gguf("llama", Path(folder))
        with program(model, "--ram", "400MiB", "--log-level", "warning") as server:
            soak = Soak(server.ready(), server.process.pid, random.Random(arguments.seed))
            asyncio.run(run(soak, 60 * arguments.minutes))
            soak.wrong += still_held(soak.url)
            rise = growth(soak.resident)
            if rise > MOST_GROWTH_NBYTES:
                soak.wrong.append(f"memory grew by {rise / 1024**2:.1f} MiB")
            server.tell(signal.SIGTERM)
            if server.ends() != 0:
                soak.wrong.append("it did not end well")
            soak.wrong += [line.strip() for line in server.lines if "Traceback" in line or " error " in line]
    report = {
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "outcomes": dict(sorted(soak.outcomes.items())),
        "resident_mib": [round(soak.resident[place][1] / 1024**2, 1) for place in (0, -1)],
        "growth_mib": round(rise / 1024**2, 2),
        "wrong": sorted(set(soak.wrong)),
    }
    print(json.dumps(report, indent=2))
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
