"""Records the routes of a model that reads a text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.errors import Unsupported
from apportion.formats.block import Floats
from apportion.formats.routes import Routes, RoutesShape, RoutesWriter
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import Model

MOST_TOKENS = 256  # per pass
HELD_NBYTES = 1 << 20  # of what a pass shows, until all layers are through; so little needs no lease
F16_MAX = float(np.finfo(np.float16).max)


def shape_of(model: Model, name: str, inputs: bool) -> RoutesShape:
    """What a recording of this model looks like, gates included.

    Raises:
        Unsupported: it has no experts.
    """
    experts = model.config.experts
    if experts is None:
        raise Unsupported(f"{name} has no experts", "there are no routes to record", "choose a MoE model")
    layers = tuple(layer for layer, has in enumerate(experts.layers) if has)
    hidden = model.config.hidden_size if inputs else 0
    return RoutesShape(name, layers, experts.num_experts, experts.routing.top_k, gates=True, hidden=hidden)


def windows_of(ids: Sequence[int], ctx: int, bos_id: int | None) -> list[Ints]:
    """A text's tokens in windows of at most `ctx`, each of which begins with BOS where the model has one."""
    head = [] if bos_id is None else [bos_id]
    step = ctx - len(head)
    return [np.array([*head, *ids[start : start + step]], np.int32) for start in range(0, len(ids), step)]


def record_routes(
    model: Model,
    windows: Iterable[Ints],
    writer: RoutesWriter,
    kv: str = DEFAULT,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> None:
    """Have the model read each window [T] from an empty context, and write what its routers choose.

    Args:
        kv: the codec of the KV cache, or those of its layers.
        on_tokens: called with the number of tokens that were read so far.

    Raises:
        DiskFault: the operating system failed a write; what was written before can be read.
        Unsupported: a layer's experts stay in memory under a budget that does not tell routes.
    """
    for window in windows:
        for routes in _routes_of(model, window, writer.shape, kv):
            writer.append(routes.experts, routes.gates, routes.inputs)
            on_tokens(writer.num_tokens)


def _routes_of(model: Model, window: Ints, shape: RoutesShape, kv: str) -> Iterator[Routes]:
    cache = model.new_cache(len(window), kv)
    step = tokens_per_pass(model, shape)
    for start in range(0, len(window), step):
        tokens = window[start : start + step]
        seen = Seen(shape, len(tokens))
        model.forward_observed(tokens, cache, seen.take)
        if seen.missing:
            raise Unsupported(
                f"the routes of layer {min(seen.missing)} are not told",
                "its experts stay in memory while other weights come and go",
                "load the model without a budget, or with one that tells routes",
            )
        yield seen.routes


def tokens_per_pass(model: Model, shape: RoutesShape) -> int:
    """As many as may be held: records, and the router inputs of one layer."""
    nbytes_per_token = shape.record.itemsize + 4 * model.config.hidden_size
    return max(1, min(MOST_TOKENS, HELD_NBYTES // nbytes_per_token))


class Seen:
    """What one pass shows of its routes."""

    def __init__(self, shape: RoutesShape, num_tokens: int) -> None:
        self._place = {layer: place for place, layer in enumerate(shape.layers)}
        self.missing = set(shape.layers)
        choices = (num_tokens, len(shape.layers), shape.top_k)
        inputs = np.zeros((*choices[:2], shape.hidden), np.float16) if shape.hidden else None
        self.routes = Routes(np.zeros(choices, np.uint16), np.zeros(choices, np.float16), inputs)

    def take(self, layer: int, ids: Ints, weights: Floats, inputs: Floats) -> None:
        """A layer's routes; the strongest choice of a token is written first."""
        place = self._place[layer]
        self.missing.discard(layer)
        order = np.argsort(-weights, axis=-1, kind="stable")
        self.routes.experts[:, place] = np.take_along_axis(ids, order, axis=-1)
        assert self.routes.gates is not None
        self.routes.gates[:, place] = np.take_along_axis(weights, order, axis=-1)
        if self.routes.inputs is not None:
            self.routes.inputs[:, place] = np.clip(inputs, -F16_MAX, F16_MAX)
