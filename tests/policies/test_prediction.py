from __future__ import annotations

import numpy as np

from apportion.policies import PREDICTIONS


def test_none_foresees_nothing() -> None:
    none = PREDICTIONS.get("none")
    assert len(none.predict(3, np.zeros((2, 16), np.float32), np.zeros((2, 8), np.float32), [1, 2])) == 0
