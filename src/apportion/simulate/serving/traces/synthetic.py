"""Requests that are drawn: at an even rate by chance, or in bursts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from apportion.core.errors import UsageError
from apportion.simulate.serving.traces.trace import TracedRequest


def drawn(
    rate: float,
    num_prompt: int,
    num_output: int,
    *,
    burst: int = 1,
    spread: float = 0.5,
    shared: float = 0.0,
    tenants: int = 1,
    seed: int = 0,
) -> Iterator[TracedRequest]:
    """Requests without end.

    Args:
        rate: requests a second on average. What lies between two bursts is drawn from an exponential
            distribution (a Poisson process).
        num_prompt, num_output: mean lengths; both are log-normal with `spread` as their logarithms' standard
            deviation.
        burst: as many come at once.
        shared: a part of the prompts that begins with the same tokens in one of 8 ways.
        tenants: whose they are, drawn evenly.

    Raises:
        UsageError: a figure makes no sense.
    """
    if not (rate > 0 and num_prompt > 0 and num_output > 0 and burst > 0 and tenants > 0):
        raise UsageError("rate, lengths, burst and tenants of drawn requests are above 0")
    if not (spread >= 0 and 0 <= shared <= 1):
        raise UsageError("a spread is at least 0, a share between 0 and 1", spread=spread, shared=shared)
    return _draw(rate, (num_prompt, num_output), burst, spread, shared, tenants, Random(seed))


def _draw(
    rate: float,
    means: tuple[int, int],
    burst: int,
    spread: float,
    shared: float,
    tenants: int,
    random: Random,
) -> Iterator[TracedRequest]:
    now_s, number = 0.0, 0
    while True:
        now_s += random.expovariate(rate / burst)
        for _ in range(burst):
            prompt, output = (
                max(round(mean * math.exp(random.gauss(-spread * spread / 2, spread))), 1) for mean in means
            )
            number += 1
            piece = max(round(prompt * shared), 1)
            prefix = (random.randrange(8), 8 + number) if shared and prompt > 1 else ()
            tenant = f"tenant {random.randrange(tenants)}" if tenants > 1 else ""
            yield TracedRequest(now_s, prompt, output, prefix, piece if prefix else 0, tenant)
