from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apportion.core.units import MiB
from apportion.plan.arrangement import Arrangement, Arranger
from apportion.plan.cost import LAYER_S, LOOKUP_S, MISS_S, START_S, STEP_S, CostModel
from apportion.plan.crowd import read_slots
from apportion.plan.estimate import workspace_of
from apportion.plan.hit_rate import HitRates, stated, uniform
from apportion.plan.machine import DiskRates, Machine, Way
from apportion.policies import PLACEMENTS

FAST = 1e18  # what shall not count


def machine(**rates: float) -> Machine:
    disk = DiskRates((Way(MiB, 1, rates.pop("disk", FAST)),))
    return Machine(**{"memory": FAST, "int8": FAST, "f32": FAST, **rates}, disk=disk, basis="")


def model(shape: Any, rates: Machine, hits: HitRates | None = None) -> CostModel:
    return CostModel(shape.config, shape.units, rates, hits or uniform())


def arranger(shape: Any) -> Arranger:
    placement = PLACEMENTS.get(PLACEMENTS.baseline)
    return Arranger(shape.config, shape.units, 0, "f16", 1, workspace_of(shape.config), placement)


def streaming(shape: Any, slots: int) -> Arrangement:
    whole = arranger(shape).resident(1024)
    return replace(whole, expert_slots=(slots,) * 4, prefill="layer_major")


def overhead(layers: int) -> float:
    return STEP_S + layers * LAYER_S


def test_decode_of_a_resident_model_streams_its_weights_once(moe: Any) -> None:
    seconds = model(moe, machine(memory=10e9)).decode_s(arranger(moe).resident(1024), 1)
    units = moe.units
    weights = units.head_nbytes + sum(layer.dense_nbytes + 8 * layer.expert_nbytes for layer in units.layers)
    assert seconds == pytest.approx(weights / (0.57 * 10e9) + overhead(4), rel=0.01)


def test_a_deeper_context_makes_a_step_longer(moe: Any) -> None:
    cost, plan = model(moe, machine(memory=10e9)), arranger(moe).resident(4096)
    assert cost.decode_s(plan, 4096) > cost.decode_s(plan, 1)


def test_misses_are_read_at_the_disks_rate(moe: Any) -> None:
    plan = streaming(moe, 16)
    cost = model(moe, machine(disk=1e9))
    misses = 4 * 8 * 0.75 * moe.units.layers[0].expert_nbytes
    assert cost.disk_nbytes_per_token(plan) == pytest.approx(misses, rel=1e-6)
    expected = misses / 1e9 + overhead(4) + 4 * (LOOKUP_S + MISS_S)
    assert cost.decode_s(plan, 1) == pytest.approx(expected, rel=0.01)


def test_hits_are_computed_while_misses_are_read(moe: Any) -> None:
    plan, hits = streaming(moe, 32), stated(0.5)
    reading = model(moe, machine(disk=1e9), hits).decode_s(plan, 1)
    nbytes = moe.units.layers[0].expert_nbytes
    computing = machine(memory=nbytes / 0.57 / 1e-4)  # an expert in 0.1 ms, a read in 3 ms
    both = model(moe, replace(computing, disk=machine(disk=1e9).disk), hits).decode_s(plan, 1)
    alone = model(moe, computing, hits).decode_s(plan, 1)
    assert both < reading + alone - 4 * 3e-4
    assert both > max(reading, alone)


def test_rows_that_lie_in_panels_need_no_rearranging(moe: Any) -> None:
    layers = [
        replace(
            layer,
            experts=tuple(
                replace(unit, members=tuple(replace(one, interleaved=True) for one in unit.members))
                for unit in layer.experts
            ),
        )
        for layer in moe.units.layers
    ]
    packed = replace(moe, units=replace(moe.units, layers=tuple(layers)))
    plan, rates = streaming(moe, 16), machine(memory=10e9)
    plain_s, packed_s = (model(shape, rates).decode_s(plan, 1) for shape in (moe, packed))
    misses = 4 * 8 * 0.75 * moe.units.layers[0].expert_nbytes
    assert plain_s == pytest.approx(packed_s + 2 * misses / 10e9, rel=0.01)
    plain_s, packed_s = (model(shape, rates).prefill_s(plan, 2048) for shape in (moe, packed))
    assert plain_s > packed_s + 4 * 48 * moe.units.layers[0].expert_nbytes / 10e9
    plain_s, packed_s = (model(shape, rates).together_s(plan, 1, 4) for shape in (moe, packed))
    chosen = 64 * (1 - (1 - 8 / 64) ** 4)
    nbytes = moe.units.layers[0].expert_nbytes
    misses = 4 * (chosen - min(0.25 * chosen, 16 - read_slots(16, nbytes))) * nbytes
    assert plain_s - packed_s == pytest.approx(2 * misses / 10e9, rel=0.01)


def test_a_disk_that_suffers_from_computing_costs_as_long_as_there_is_some(moe: Any, dense: Any) -> None:
    steady = DiskRates((Way(MiB, 1, 1e9),))
    shaken = DiskRates((Way(MiB, 1, 1e9),), (Way(MiB, 1, 0.5e9),))
    some_layers = replace(arranger(dense).resident(1024), streamed_layers=tuple(range(5)), stream_buffers=2)
    for shape, plan in ((moe, streaming(moe, 32)), (dense, some_layers)):
        for memory, is_slower in ((FAST, False), (10e9, True)):
            first, second = (
                model(shape, replace(machine(memory=memory), disk=disk), stated(0.5)).decode_s(plan, 1)
                for disk in (steady, shaken)
            )
            assert (second > first * 1.01) == is_slower


def test_a_higher_hit_rate_and_a_faster_disk_are_never_slower(moe: Any) -> None:
    plan, rates = streaming(moe, 32), machine(memory=20e9, disk=1e9)
    times = [model(moe, rates, stated(rate)).decode_s(plan, 100) for rate in (0, 0.3, 0.6, 0.9, 1)]
    assert times == sorted(times, reverse=True)
    cost = [model(moe, rates.drifted(factor)).decode_s(plan, 100) for factor in (0.5, 1, 2)]
    assert cost == sorted(cost, reverse=True)


def test_layers_that_stream_take_the_longer_of_reading_and_computing(dense: Any) -> None:
    whole = arranger(dense).resident(1024)
    plan = replace(whole, streamed_layers=tuple(range(5, 10)), stream_buffers=2, prefill="layer_major")
    reading = 5 * dense.units.layers[0].dense_nbytes / 1e9
    cost = model(dense, machine(disk=1e9))
    assert cost.decode_s(plan, 1) == pytest.approx(reading, rel=0.02)
    slow = machine(memory=1e9, disk=1e9)
    computing = model(dense, slow).decode_s(whole, 1)
    both = model(dense, slow).decode_s(plan, 1)
    # 10 layers computed at 0.57 GB/s; 5 read at 1, and rearranged: each byte read and written once
    assert both == pytest.approx(computing + 2 * reading, rel=0.02)
    assert cost.disk_nbytes_per_token(plan) == 5 * dense.units.layers[0].dense_nbytes


def test_a_prompt_multiplies_at_the_share_that_kernels_reach(dense: Any) -> None:
    plan = arranger(dense).resident(1024)
    seconds = model(dense, machine(int8=100e9)).prefill_s(plan, 512)
    numbers = 10 * dense.units.layers[0].dense_nbytes / 34 * 32
    head = 2 * (dense.units.embedding_nbytes / 34 * 32) / 0.53 / 100e9
    assert seconds - head == pytest.approx(512 * 2 * numbers / (0.53 * 100e9) + overhead(10), rel=0.01)


def test_attention_grows_with_the_square_of_the_prompt_but_for_windows(dense: Any) -> None:
    plan = arranger(dense).resident(4096)
    cost = model(dense, machine(f32=1e6))
    assert cost.prefill_s(plan, 2000) == pytest.approx(4 * cost.prefill_s(plan, 1000), rel=0.01)
    windowed = replace(dense.config, windows=(100,) * 10)
    cost = CostModel(windowed, dense.units, machine(f32=1e6), uniform())
    assert cost.prefill_s(plan, 2000) == pytest.approx(2 * cost.prefill_s(plan, 1000), rel=0.06)


def test_a_prompt_reads_each_expert_once_however_long_it_is(moe: Any) -> None:
    plan, cost = streaming(moe, 16), model(moe, machine(disk=1e9))
    kept = 16 - read_slots(16, moe.units.layers[0].expert_nbytes)
    once = 4 * (64 - kept) * moe.units.layers[0].expert_nbytes / 1e9
    assert cost.prefill_s(plan, 256) == pytest.approx(once, rel=0.02)
    assert cost.prefill_s(plan, 1024) == pytest.approx(once, rel=0.02)
    assert cost.prefill_s(plan, 1) < once / 4
    chunked = replace(plan, prefill="chunked", tokens_per_pass=256)
    assert cost.prefill_s(chunked, 1024) == pytest.approx(4 * once, rel=0.02)


def test_the_first_prompt_finds_empty_slots(moe: Any) -> None:
    plan, cost = streaming(moe, 16), model(moe, machine(disk=1e9))
    everything = 4 * 64 * moe.units.layers[0].expert_nbytes / 1e9
    assert cost.prefill_s(plan, 1024, cold=True) == pytest.approx(everything, rel=0.02)
    whole = streaming(moe, 64)
    assert cost.prefill_s(whole, 1024, cold=True) == cost.prefill_s(whole, 1024)


def test_few_tokens_touch_few_experts(moe: Any) -> None:
    plan, cost = streaming(moe, 16), model(moe, machine(disk=1e9))
    touched = 64 * (1 - (1 - 8 / 64) ** 4)
    expert_s = moe.units.layers[0].expert_nbytes / 1e9
    kept = 16 - read_slots(16, moe.units.layers[0].expert_nbytes)
    assert kept < touched / 4  # of those touched, a quarter was there: some make way
    assert cost.prefill_s(plan, 4) == pytest.approx(4 * (touched - kept) * expert_s, rel=0.02)
    roomy = streaming(moe, 48)  # all that are touched have room: none makes way
    assert cost.prefill_s(roomy, 4) == pytest.approx(4 * touched / 4 * expert_s, rel=0.03)


def test_a_local_prompt_touches_what_a_cache_of_all_before_would_miss(moe: Any) -> None:
    def half_are_enough(layer: int, slots: int, count: int) -> float:
        return min(1.0, slots / 32)

    plan = streaming(moe, 16)
    cost = model(moe, machine(disk=1e9), HitRates("", half_are_enough))
    expert_s = moe.units.layers[0].expert_nbytes / 1e9
    kept = 16 - read_slots(16, moe.units.layers[0].expert_nbytes)
    assert cost.prefill_s(plan, 512) == pytest.approx(4 * (32 - kept) * expert_s, rel=0.02)
    lacking_two = streaming(moe, 30)  # no more than these make way
    assert cost.prefill_s(lacking_two, 512) == pytest.approx(4 * 4 * expert_s, rel=0.02)
    having_all = streaming(moe, 32)
    assert cost.prefill_s(having_all, 512) == pytest.approx(overhead(4), rel=0.02)
    assert cost.prefill_s(plan, 512, cold=True) == pytest.approx(4 * 32 * expert_s, rel=0.02)


def test_loading_reads_what_stays(moe: Any) -> None:
    units, cost = moe.units, model(moe, machine(disk=1e9))
    assert cost.load_s(arranger(moe).resident(1024)) == pytest.approx(START_S + units.nbytes / 1e9)
    some = arranger(moe).arrange(500 * MiB, 1024)
    assert some is not None
    experts = 4 * 64 * units.layers[0].expert_nbytes  # slots are filled as experts are needed
    assert cost.load_s(some) == pytest.approx(START_S + (units.nbytes - experts) / 1e9)


def test_an_embedding_by_row_costs_a_page_a_token(moe: Any) -> None:
    plan = replace(arranger(moe).resident(1024), embedding="rows")
    cost = model(moe, machine(disk=1e6))
    assert cost.disk_nbytes_per_token(plan) == 4096
    assert cost.decode_s(plan, 1) == pytest.approx(4096 / 1e6 + overhead(4), rel=0.01)


def test_a_plan_without_experts_hits_always(dense: Any) -> None:
    assert model(dense, machine()).hit_rate(arranger(dense).resident(64)) == 1


def test_the_hit_rate_is_the_mean_over_layers_with_experts(shape_of: Any) -> None:
    shape = shape_of("deepseek2")  # its first layer has none
    plan = replace(arranger(shape).resident(64), expert_slots=(0, 4, 2))
    assert model(shape, machine()).hit_rate(plan) == pytest.approx(0.375)
