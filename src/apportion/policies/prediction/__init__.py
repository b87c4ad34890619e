"""Route prediction: which experts come next, to be read before they are asked for. One file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from apportion.policies.family import Policy, PolicyFamily


class Prediction(Policy):
    """Decides which experts to read ahead."""

    budget: ClassVar[str] = "disk bandwidth, expert slots"

    def predict(
        self,
        layer: int,
        router_input: NDArray[np.float32],
        scores: NDArray[np.float32],
        experts: Sequence[int],
    ) -> Sequence[tuple[int, int]]:
        """The (layer, expert) pairs to read ahead, the most urgent first; some may be resident.

        Args:
            layer: the layer whose router has just chosen.
            router_input: the normed hidden states that the router saw, [tokens, hidden].
            scores: what it gave all experts, before any choice or softmax, [tokens, num_experts].
            experts: those that it chose, each once.
        """
        raise NotImplementedError


PREDICTIONS = PolicyFamily("route prediction", __name__, Prediction, "none")
