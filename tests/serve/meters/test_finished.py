from __future__ import annotations

import numpy as np
import pytest
from tests.engine.scripted import make_request

from apportion.core.errors import DiskFault
from apportion.engine.request import Request
from apportion.serve.meters import Took, percentile
from apportion.serve.meters.finished import MAX_KEPT, REASONS, Finished


def over(added_s: float = 100.0, *, output: int = 5, reason: str = "stop") -> Request:
    """Queued for 1 s, its prompt read in 2 s, a token every 0.5 s."""
    request = make_request([1, 2, 3, 4], 8)
    sequence, spent = request.sequence, request.spent
    for token in range(output):
        sequence._ids[sequence._length] = token
        sequence._length += 1
    sequence.finish_reason = reason  # type: ignore[assignment]
    request.num_cached = 1
    spent.added_s, spent.admitted_s, spent.first_token_s = added_s, added_s + 1, added_s + 3
    spent.finished_s = added_s + 3 + 0.5 * (output - 1)
    return request


def test_an_answers_time_is_split_at_its_admission_and_its_first_token() -> None:
    took = Took.of(over())
    assert took == Took(
        at_s=105.0,
        e2e_s=5.0,
        queue_s=1.0,
        prefill_s=2.0,
        decode_s=2.0,
        ttft_s=3.0,
        tpot_s=0.5,
        prompt_tokens=4,
        computed_tokens=3,
        output_tokens=5,
    )


def test_a_request_that_left_the_queue_has_only_waited() -> None:
    request = over(output=0, reason="cancelled")
    request.spent.admitted_s = request.spent.first_token_s = None
    request.spent.finished_s = 107.0
    took = Took.of(request)
    assert took is not None
    assert (took.queue_s, took.prefill_s, took.decode_s, took.ttft_s, took.tpot_s) == (7, 0, 0, None, None)


def test_a_single_token_has_no_time_per_output_token() -> None:
    took = Took.of(over(output=1))
    assert took is not None
    assert took.tpot_s is None


def test_a_request_that_never_began_is_counted_and_not_timed() -> None:
    finished, request = Finished(), make_request([1], 2)
    request.error = DiskFault("gone")
    finished.add([request])
    assert finished.reasons == {"error": 1}
    assert finished.histograms["e2e_s"].num_values == 0
    assert finished.last(100.0) == []


def test_histograms_hold_every_answer_of_a_request() -> None:
    finished = Finished()
    finished.add([over(), over(output=1)])
    counts = {name: histogram.num_values for name, histogram in finished.histograms.items()}
    assert counts.pop("tpot_s") == 1
    assert set(counts.values()) == {2}
    assert finished.histograms["ttft_s"].total == 6
    assert (finished.choices.num_values, finished.choices.total) == (1, 2)
    assert finished.max_tokens.total == 16


@pytest.mark.parametrize("reason", ["stop", "length", "cancelled"])
def test_answers_are_counted_by_why_they_ended(reason: str) -> None:
    finished = Finished()
    finished.add([over(reason=reason)])
    assert finished.reasons == {reason: 1}
    assert reason in REASONS


def test_what_a_failed_step_took_down_counts_as_an_error() -> None:
    finished = Finished()
    finished.add([over(reason="cancelled")], failed=True)
    assert finished.reasons == {"error": 1}


def test_the_last_minutes_answers_are_found_by_when_they_ended() -> None:
    finished = Finished()
    for second in range(0, 300, 10):
        finished.add([over(float(second))])
    assert [took.at_s for took in finished.last(300.0)] == [245, 255, 265, 275, 285, 295]


def test_memory_is_bounded() -> None:
    finished = Finished()
    finished.add([over()] * (2 * MAX_KEPT))
    assert len(finished.last(110.0)) == MAX_KEPT
    assert finished.reasons["stop"] == 2 * MAX_KEPT


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_percentile_is_one_of_the_values(share: float) -> None:
    values = np.random.default_rng(3).permutation(np.arange(1, 101)).tolist()
    assert percentile(values, share) == np.percentile(values, share * 100, method="inverted_cdf")


def test_a_percentile_leaves_out_what_is_unknown() -> None:
    assert percentile([None, 3.0, None], 0.99) == 3.0
    assert percentile([None], 0.5) is None
    assert percentile([], 0.5) is None
