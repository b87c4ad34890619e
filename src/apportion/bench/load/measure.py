"""One load on a server, from its requests to its figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apportion.bench.load.arrivals import Order
from apportion.bench.load.figures import Figures, Limits, figures
from apportion.bench.load.prompts import Prompts
from apportion.bench.load.run import Load
from apportion.bench.load.server import Server


@dataclass(frozen=True, slots=True)
class Shape:
    """What comes to the server.

    Attributes:
        title: as figures of it are to be called.
        clients: that wait for their answers; None: requests come when they are due.
    """

    title: str
    clients: int | None
    orders: Sequence[Order]


def measure(
    server: Server,
    shape: Shape,
    prompts: Prompts,
    limits: Limits,
    *,
    warmup: int = 1,
    limit_s: float = 300.0,
    on_answer: Callable[[int], None] | None = None,
) -> Figures:
    """Load the server.

    Args:
        prompts: of the requests, by their places; uncounted ones come after these.
        warmup: uncounted requests before, one after the other.
        limit_s: as in `run.Load`; for the uncounted ones, too.
    """
    requests = [
        (order.at_s, server.request(prompts.prompt(place, order.prompt_tokens), order.output_tokens))
        for place, order in enumerate(shape.orders)
    ]
    before = [
        (0.0, server.request(prompts.prompt(len(requests) + place, order.prompt_tokens), order.output_tokens))
        for place, order in enumerate(shape.orders[:warmup])
    ]
    if before:
        Load(server.address, before, limit_s).closed_loop(1)
    load = Load(server.address, requests, limit_s, on_answer)
    run = load.open_loop() if shape.clients is None else load.closed_loop(shape.clients)
    return figures(run, limits)
