"""Threads that share a call's work: none is lost, none waited for in vain, and at rest they cost nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
from tests.kernels.tables import alone, new_table

from apportion.formats.blocks import FORMATS
from apportion.kernels import LayerShape, NativeOps, Routing, Weight

MakeWeight = Callable[..., Weight]


# The last has few pieces that take long: whoever does not wait for another's is soon found out.
@pytest.mark.parametrize(("rows", "cols"), [(17, 256), (300, 256), (4099, 256), (64, 32768)])
def test_every_piece_is_done_once_by_however_many_threads_in_turn(
    rows: int, cols: int, make_weight: MakeWeight
) -> None:
    weight = make_weight(FORMATS["q4_0"], (rows, cols), 1)
    # Different inputs in turn: what is not written may hold the last result, but not this one.
    inputs = np.random.default_rng(2).standard_normal((5, 3, cols)).astype(np.float32)
    expected = [NativeOps(1).linear(x, weight) for x in inputs]
    for threads in (2, 7, 3, 64, 1, 2):
        ops = NativeOps(threads)
        for x, result in zip(list(inputs) * 4, expected * 4, strict=True):
            np.testing.assert_array_equal(ops.linear(x, weight), result)


def test_threads_at_rest_use_no_processor(make_weight: MakeWeight) -> None:
    weight = make_weight(FORMATS["q4_0"], (1024, 256), 1)
    NativeOps(4).linear(np.ones((4, 256), np.float32), weight)
    time.sleep(0.05)  # they look around for a moment before they sleep
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def time_of_others() -> float:
    """Processor time of this process's other threads, in seconds."""
    return time.process_time() - time.thread_time()


def test_what_is_little_work_for_one_token_wakes_nobody(make_weight: MakeWeight) -> None:
    ops, one = NativeOps(2), np.ones((1, 64), np.float32)
    weight, table = make_weight(FORMATS["q8_0"], (64, 64), 1), make_weight(FORMATS["q8_0"], (300, 64), 2)
    own = alone(new_table(40, LayerShape(2, 32, 32), "f16"), 39, 1)
    ops.linear(np.ones((64, 64), np.float32), table)

    def others_took() -> float:
        time.sleep(0.05)
        before = time_of_others()
        for _ in range(100):
            time.sleep(0.002)  # so that each waking shows: who wakes looks around for 0.2 ms
            x = ops.rms_norm(ops.embed(np.zeros(1, np.int32), table), one[0], 1e-5)
            heads = ops.linear(x, weight).reshape(1, 2, 32)
            ops.rope(heads, np.array([3], np.int32), np.ones(8, np.float32), "half")
            ops.append(own, 0, heads, heads)
            ops.attend(heads, own, 0, 1.0)
            ops.route(ops.gate(x, x, "silu"), Routing(2))
        return time_of_others() - before

    # Whoever wakes does so every time; threads of other tests that linger compute now and then.
    assert min(others_took() for _ in range(3)) < 0.005


WAKE = """
import time, numpy as np
from apportion.kernels import NativeOps, weight_from_floats
from apportion.formats.blocks import FORMATS
ops, x = NativeOps(2), np.ones((1, 512), np.float32)
weight = weight_from_floats(FORMATS["q8_0"], np.ones((8192, 512), np.float32))
for _ in range(3):
    ops.linear(x, weight)
    time.sleep(0.01)
before = time.process_time() - time.thread_time()
for _ in range(30):
    for _ in range(20):
        ops.linear(x, weight)
    time.sleep(0.01)
print(time.process_time() - time.thread_time() - before)
"""


def test_threads_that_slept_come_back_for_the_next_call() -> None:
    others = float(
        subprocess.run([sys.executable, "-c", WAKE], check=True, capture_output=True, text=True).stdout
    )
    assert others > 0.01
