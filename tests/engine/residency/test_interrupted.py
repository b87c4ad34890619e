from __future__ import annotations

import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, logits_of, whole


class Stop(BaseException):
    """Raised wherever the program happens to be, as Ctrl-C is."""


@pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread only"
)
def test_a_run_may_be_broken_off_anywhere_and_the_next_one_is_right(load: Load, moe: Path) -> None:
    streamed = load(moe, 2, (0, 2))
    expected = logits_of(whole(moe))
    began = time.perf_counter()
    np.testing.assert_array_equal(logits_of(streamed.model), expected)
    took = time.perf_counter() - began
    draw, stopped = random.Random(4), 0

    def stop(number: int, frame: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        for attempt in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.0001, took))
                logits_of(streamed.model)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                stopped += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            if attempt % 6 == 5:
                np.testing.assert_array_equal(logits_of(streamed.model), expected)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert stopped > 10
