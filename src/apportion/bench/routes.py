"""Routes from a file in place of the router's: a model of random weights then asks for experts as a real one
does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import UsageError
from apportion.kernels.ops import Ints
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits

if TYPE_CHECKING:
    from apportion.formats.routes import RoutesFile


class RoutesReplay:
    """`engine.residency.OnRoute` over recorded routes, from the first token again after the last.

    Every prompt replays the file's first tokens; answers go on where the last one stopped.

    Args:
        experts: ids [tokens, layers, top_k], at least one token.
        layers: the numbers of the layers that the file has, rising.
    """

    def __init__(self, experts: NDArray[np.uint8 | np.uint16], layers: tuple[int, ...]) -> None:
        self._experts = {layer: experts[:, at] for at, layer in enumerate(layers)}
        self._num_tokens = len(experts)
        self._next = 0
        self._answered = 0
        self._phase: Literal["prefill", "decode"] = "decode"
        self._layer, self._count = -1, 0

    def begin(self, phase: Literal["prefill", "decode"]) -> None:
        """What comes next is a prompt, or an answer."""
        self._pass_on()
        if self._phase == "decode":
            self._answered = self._next
        self._phase = phase
        self._next = 0 if phase == "prefill" else self._answered

    def __call__(self, layer: int, ids: Ints) -> Ints:
        """A layer's recorded experts for the tokens of the pass at hand, ids [T, R] -> [T, R]."""
        if layer <= self._layer:  # the next pass
            self._pass_on()
        self._layer, self._count = layer, len(ids)
        stop = self._next + len(ids)
        if stop <= self._num_tokens:
            return self._experts[layer][self._next : stop].astype(np.int32)
        return self._experts[layer][np.arange(self._next, stop) % self._num_tokens].astype(np.int32)

    def _pass_on(self) -> None:
        self._next = (self._next + self._count) % self._num_tokens
        self._layer, self._count = -1, 0


def replay_of(routes: RoutesFile, config: ModelConfig, units: ModelUnits, tokens: int) -> RoutesReplay:
    """A replay of the first tokens of a file, at most so many, for a model.

    Raises:
        UsageError: the routes are not of this model's shape, or there are none.
        BadFile, DiskFault: the file cannot be read.
    """
    layers = tuple(unit.layer for unit in units.layers if unit.num_experts)
    if config.experts is None:
        raise UsageError("routes need experts", "every layer of this model is dense")
    shape, routing = routes.shape, config.experts.routing
    if (shape.layers, shape.num_experts, shape.top_k) != (layers, config.experts.num_experts, routing.top_k):
        raise UsageError(
            f"{routes.path.name} holds routes of another shape",
            f"they are of {_shape(len(shape.layers), shape.num_experts, shape.top_k)}; "
            f"the model has {_shape(len(layers), config.experts.num_experts, routing.top_k)}",
            "make some with: apportion trace generate, or record the model's own: apportion trace record",
            file_layers=list(shape.layers),
            model_layers=list(layers),
        )
    if not routes.num_tokens:
        raise UsageError(f"{routes.path.name} holds no routes", hint="record or make some tokens")
    return RoutesReplay(routes.experts(tokens), layers)


def _shape(num_layers: int, num_experts: int, top_k: int) -> str:
    return f"{num_layers} layers with {top_k} of {num_experts} experts"
