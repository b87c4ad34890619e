"""When requests come: by chance at an even rate, several at once, or as soon as a client is free."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
from random import Random


@dataclass(frozen=True, slots=True)
class Order:
    """A request to come.

    Attributes:
        at_s: when, from the beginning on; without meaning where clients wait for their answers.
        prompt_tokens, output_tokens: as long as it shall be.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int


def poisson(rate: float, burst: int, seed: int) -> Iterator[float]:
    """Times without end: `rate` a second on average, `burst` at once, and what lies between two bursts drawn
    from an exponential distribution. The first burst comes at 0.
    """
    random = Random(f"{seed} arrivals")
    now_s = 0.0
    while True:
        for _ in range(burst):
            yield now_s
        now_s += random.expovariate(rate / burst)


def orders(times: Iterable[float], prompt: int, output: int, number: int) -> list[Order]:
    """So many requests of one length."""
    return [Order(at_s, prompt, output) for at_s in islice(times, number)]


def whenever(prompt: int, output: int, number: int) -> list[Order]:
    """For clients that wait for their answers."""
    return orders((0.0 for _ in count()), prompt, output, number)
