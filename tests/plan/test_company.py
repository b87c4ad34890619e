"""How many requests run at once where experts come and go, and what a step of several takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.plan.test_cost import FAST, arranger, machine, model, overhead, streaming

from apportion.plan.cost import LOOKUP_S, MISS_S
from apportion.plan.crowd import read_slots
from apportion.plan.hit_rate import HitRates
from apportion.plan.scheduling import company

STEEP = HitRates("a cache that one sequence fills", lambda layer, slots, count: float(slots >= 32))


def test_a_step_of_one_is_a_decode_step(moe: Any) -> None:
    cost, plan = model(moe, machine(disk=1e9)), streaming(moe, 16)
    assert cost.together_s(plan, 100, 1) == cost.decode_s(plan, 100)


def test_several_tokens_read_each_expert_that_misses_once(moe: Any) -> None:
    cost, plan = model(moe, machine(disk=1e9)), streaming(moe, 48)
    layer = moe.units.layers[0]
    chosen = 64 * (1 - (1 - 8 / 64) ** 4)
    kept = 48 - read_slots(48, layer.expert_nbytes)
    misses = chosen - min(chosen * 0.75, kept)
    reading = 4 * misses * layer.expert_nbytes / 1e9
    looking = 4 * (LOOKUP_S + MISS_S)
    assert cost.together_s(plan, 1, 4) == pytest.approx(reading + overhead(4) + looking, rel=0.01)


def test_in_memory_company_costs_little_and_everybody_runs(moe: Any) -> None:
    cost, whole = model(moe, machine(memory=10e9, int8=1e13)), arranger(moe).resident(1024)
    assert cost.together_s(whole, 1, 8) < 8 * cost.decode_s(whole, 1)
    assert company(cost, whole, 100, 8) == 8


def test_a_sequence_runs_alone_where_others_would_take_what_it_comes_back_to(moe: Any) -> None:
    cost, plan = model(moe, machine(disk=1e9), STEEP), streaming(moe, 32)
    alone, eight = 1 / cost.together_s(plan, 100, 1), 8 / cost.together_s(plan, 100, 8)
    assert alone > 2 * eight
    assert company(cost, plan, 100, 8) == 1
    assert company(cost, plan, 100, 1) == 1


def test_all_run_where_fewer_gain_little(moe: Any) -> None:
    cost = model(moe, machine(disk=1e9))  # every expert as likely as any other: nothing to lose
    assert company(cost, streaming(moe, 16), 100, 8) == 8


def test_layers_that_stream_are_read_once_for_all(dense: Any) -> None:
    whole = arranger(dense).resident(1024)
    plan = replace(whole, streamed_layers=tuple(range(4)), stream_buffers=2, prefill="layer_major")
    cost = model(dense, machine(disk=1e9, memory=FAST))
    assert cost.together_s(plan, 1, 8) == pytest.approx(cost.decode_s(plan, 1), rel=0.01)
    assert company(cost, plan, 100, 8) == 8
