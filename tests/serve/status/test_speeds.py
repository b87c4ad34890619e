from __future__ import annotations

import pytest
from tests.serve.meters.test_finished import over
from tests.serve.meters.test_minute import LAYERS, item

from apportion.engine.engine import Counters
from apportion.serve.meters import Meter, Minute
from apportion.serve.schemas.status import Speeds
from apportion.serve.status.speeds import forecast_of, measured, plan_errors, rates_of


def meter() -> Meter:
    """Two answers, a token of each every tenth of a second from 100 s to 103 s, and one that has ended."""
    one = Meter("tiny")
    one.minute = Minute(LAYERS, Counters())
    one.minute([item(1, 50, 1), item(2, 50, 1)], 99.0, 0.5)
    for step in range(30):
        one.minute([item(1, 1, 1), item(2, 1, 1)], 100.0 + step / 10, 0.05)
    one.finished.add([over(98.0)])
    return one


def test_what_each_reader_sees_is_measured_and_what_all_get_is_a_rate() -> None:
    assert measured(meter(), 103.5).decode_tok_s == pytest.approx(20)
    assert rates_of([meter()], 103.5).decode_tok_s == pytest.approx(40)


def test_several_models_are_added_up() -> None:
    together = rates_of([meter(), meter()], 103.5)
    assert together.decode_tok_s == pytest.approx(40)  # twice the tokens in twice the time
    assert together.ttft_p50_s == 3


def test_rates_are_of_now_and_what_was_measured_of_a_minute() -> None:
    assert rates_of([meter()], 110.0).decode_tok_s is None
    assert rates_of([meter()], 110.0).ttft_p99_s == 3
    assert measured(meter(), 110.0).decode_tok_s == pytest.approx(20)
    assert measured(meter(), 110.0).prefill_tok_s == 200
    assert measured(meter(), 200.0) == Speeds(decode_tok_s=None, prefill_tok_s=None, ttft_s=None)


def test_errors_of_a_forecast_are_shares_of_it() -> None:
    told = Speeds(decode_tok_s=10, prefill_tok_s=100, ttft_s=1)
    was = Speeds(decode_tok_s=12, prefill_tok_s=50, ttft_s=9)
    assert plan_errors(told, was) == pytest.approx({"decode_tok_s": 0.2, "prefill_tok_s": -0.5})


def test_where_nothing_was_foretold_or_nothing_ran_there_is_no_error() -> None:
    nothing = Speeds(decode_tok_s=None, prefill_tok_s=None, ttft_s=None)
    assert plan_errors(None, nothing) == {}
    assert plan_errors(Speeds(decode_tok_s=10, prefill_tok_s=100, ttft_s=1), nothing) == {}
    assert forecast_of(None) is None
