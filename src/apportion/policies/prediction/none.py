"""Nothing is foreseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from apportion.policies.prediction import Prediction


@dataclass(frozen=True, slots=True)
class NoPrediction(Prediction):
    """Reads no expert before it is asked for.

    Source: demand paging, the control of every comparison.
    """

    budget: ClassVar[str] = "nothing"

    def predict(
        self,
        layer: int,
        router_input: NDArray[np.float32],
        scores: NDArray[np.float32],
        experts: Sequence[int],
    ) -> Sequence[tuple[int, int]]:
        return ()


POLICY = NoPrediction()
