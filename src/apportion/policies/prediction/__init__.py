"""Route prediction: which experts come next, to be read before they are asked for. One file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from apportion.policies.family import Policy, PolicyFamily


class Prediction(Policy):
    """Decides which experts to read ahead."""

    budget: ClassVar[str] = "disk bandwidth, expert slots"

    def predict(
        self,
        layer: int,
        router_input: NDArray[np.floating[Any]] | None,
        scores: NDArray[np.floating[Any]] | None,
        experts: Sequence[int],
    ) -> Sequence[tuple[int, int]]:
        """The (layer, expert) pairs to read ahead, the most urgent first; some may be resident.

        Args:
            layer: the layer whose router has just chosen.
            router_input: what the router saw, [tokens, hidden]; None where it is not kept.
            scores: its scores before the choice, [tokens, num_experts]; None where they are not kept.
            experts: those that it chose, each once.
        """
        raise NotImplementedError


PREDICTIONS = PolicyFamily("route prediction", __name__, Prediction, "none")
