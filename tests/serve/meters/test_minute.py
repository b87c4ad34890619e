from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from apportion.engine.engine import Counters
from apportion.engine.executor import RunItem
from apportion.serve.meters import Minute
from apportion.serve.meters.minute import MAX_REMEMBERED

LAYERS = 4


def item(request: int, num_tokens: int, num_logits: int = 0, end_layer: int = LAYERS) -> RunItem:
    return RunItem(request, np.zeros(num_tokens, np.int32), None, 0, 0, end_layer, num_logits)  # type: ignore[arg-type]


def run(minute: Minute, *steps: tuple[Sequence[RunItem], float, float]) -> None:
    for items, begin_s, seconds in steps:
        minute(items, begin_s, seconds)


def test_prompts_and_answers_are_told_apart() -> None:
    minute = Minute(LAYERS, Counters())
    run(
        minute,
        ([item(1, 30)], 10.0, 0.5),
        ([item(1, 10, 1)], 10.5, 0.5),
        ([item(1, 1, 1)], 11.0, 0.25),
        ([item(1, 1, 1), item(2, 20, 1)], 11.25, 0.25),
    )
    sums = minute.sums(12.0)
    assert (sums.prefill_tokens, sums.prefill_s) == (60, 1.25)
    assert (sums.decode_tokens, sums.decode_s) == (2, 0.5)
    assert sums.busy_s == 1.5


def test_tokens_count_when_they_pass_the_last_layer_and_their_seconds_always() -> None:
    minute = Minute(LAYERS, Counters())
    run(minute, ([item(1, 30, 0, end_layer=2)], 10.0, 0.5), ([item(1, 30, 1)], 10.5, 0.5))
    sums = minute.sums(11.0)
    assert (sums.prefill_tokens, sums.prefill_s, sums.decode_s) == (30, 1.0, 0.0)


def test_what_a_reader_sees_is_slower_than_what_all_get_together() -> None:
    minute = Minute(LAYERS, Counters())
    for second in range(10):
        minute([item(request, 1, 1) for request in range(8)], 10.0 + second, 0.5)
    sums = minute.sums(20.0)
    assert sums.decode_tokens / sums.decode_s == 16
    assert sums.decode_tokens / sums.token_s == 2


def test_guesses_that_were_right_are_tokens_too() -> None:
    counters = Counters()
    minute = Minute(LAYERS, counters)
    minute([item(1, 4, 4)], 10.0, 0.5)
    counters.accepted_tokens = 3
    minute([item(1, 4, 4)], 10.5, 0.5)
    assert minute.sums(11.0).decode_tokens == 5


def test_what_was_longer_ago_than_a_minute_is_forgotten() -> None:
    minute = Minute(LAYERS, Counters())
    for second in range(200):
        minute([item(1, 1, 1)], float(second), 0.5)
    assert minute.sums(200.0).decode_tokens == 59  # the second that is not over counts as one of 60
    assert minute.sums(199.9).decode_tokens == 60
    assert minute.sums(229.0).decode_tokens == 30
    assert minute.sums(500.0).decode_tokens == 0
    minute([item(1, 1, 1)], 500.0, 0.5)
    assert minute.sums(500.9).decode_tokens == 1


def test_bytes_from_the_disk_count_in_the_second_of_their_step() -> None:
    read = [1000]
    minute = Minute(LAYERS, Counters(), lambda: read[0])
    read[0] = 1500
    minute([item(1, 1, 1)], 10.0, 0.5)
    read[0] = 1700
    minute([item(1, 1, 1)], 50.0, 0.5)
    assert minute.sums(51.0).nbytes_read == 700
    assert minute.sums(80.0).nbytes_read == 200


def test_gaps_are_between_the_tokens_of_one_answer() -> None:
    minute = Minute(LAYERS, Counters())
    run(
        minute,
        ([item(1, 10, 1)], 0.0, 0.5),
        ([item(1, 1, 1)], 0.5, 0.25),
        ([item(2, 10)], 0.75, 0.25),  # another's prompt comes between
        ([item(1, 1, 1), item(2, 5, 1)], 1.0, 0.25),
    )
    assert minute.gap_s.num_values == 2
    assert minute.gap_s.total == pytest.approx(0.25 + 0.5)


def test_a_request_that_is_over_and_its_number_leave_no_gap_behind() -> None:
    minute = Minute(LAYERS, Counters())
    run(minute, ([item(1, 10, 1)], 0.0, 0.5))
    minute.forget(1)
    run(minute, ([item(1, 10, 1)], 1000.0, 0.5))
    assert minute.gap_s.num_values == 0


def test_memory_is_bounded_whoever_is_never_forgotten() -> None:
    minute = Minute(LAYERS, Counters())
    for request in range(3 * MAX_REMEMBERED):
        minute([item(request, 1, 1)], request * 0.01, 0.01)
    assert len(minute._last_s) == MAX_REMEMBERED
    minute([item(3 * MAX_REMEMBERED - 1, 1, 1)], 100.0, 0.01)  # one of the last is known still
    assert minute.gap_s.num_values == 1


def test_sizes_of_steps_are_of_tokens_that_passed_all_layers() -> None:
    minute = Minute(LAYERS, Counters())
    run(
        minute,
        ([item(1, 30, end_layer=2)], 0.0, 0.1),
        ([item(1, 30, 1), item(2, 1, 1)], 0.1, 0.1),
    )
    assert (minute.step_tokens.num_values, minute.step_tokens.total) == (1, 31)
