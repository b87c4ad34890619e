from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apportion.core.claim import Kind
from apportion.core.errors import DoesNotFit, UsageError
from apportion.core.keys import UnitKey
from apportion.core.units import GiB, MiB
from apportion.models.footprint import kv_nbytes
from apportion.plan import Plan, PolicyNames
from apportion.plan.hit_rate import stated, uniform
from apportion.plan.planner import Planner, make_plan
from apportion.policies.placement import PLACEMENTS, PlacedUnit, Placement

TINY = (
    "llama",
    "llama-tied",
    "gemma3",
    "qwen2-window",
    "mixtral",
    "olmoe",
    "deepseek2",
    "gpt_oss",
)
RUNTIME = 40 * MiB


def planner(shape: Any, **wishes: Any) -> Planner:
    return Planner(shape.config, shape.units, RUNTIME, 2, **wishes)


def slots_of(plan: Plan) -> int:
    return sum(plan.expert_slots)


@pytest.mark.parametrize("name", TINY)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ctx=st.none() | st.integers(1, 48),
    kv=st.sampled_from(["f16", "f32", "q8", "q4"]),
    concurrency=st.integers(1, 3),
    reserve=st.integers(0, 5000),
)
def test_the_smallest_budget_does_and_a_byte_less_does_not(
    shape_of: Callable[[str], Any], name: str, ctx: int | None, kv: Any, concurrency: int, reserve: int
) -> None:
    shape = shape_of(name)
    wishes = {"ctx": ctx, "kv": kv, "concurrency": concurrency, "reserve_nbytes": reserve}
    smallest = planner(shape, **wishes).smallest_budget
    plan = make_plan(shape.config, shape.units, smallest, runtime_nbytes=RUNTIME, threads=2, **wishes)
    assert plan.total_nbytes <= smallest
    with pytest.raises(DoesNotFit) as caught:
        make_plan(shape.config, shape.units, smallest - 1, runtime_nbytes=RUNTIME, threads=2, **wishes)
    assert caught.value.numbers["smallest_budget"] == smallest


@pytest.mark.parametrize("kind", ["moe", "dense"])
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1.2), more=st.integers(1, 200 * MiB), ctx=st.sampled_from([None, 1000]))
def test_a_plan_keeps_to_its_budget_and_more_never_buys_less(
    request: pytest.FixtureRequest, kind: str, share: float, more: int, ctx: int | None
) -> None:
    shape = request.getfixturevalue(kind)
    wishes = planner(shape, ctx=ctx)
    smallest = wishes.smallest_budget
    ram = smallest + round(share * (wishes.resident_budget - smallest))
    less, greater = wishes.plan(ram), wishes.plan(ram + more)
    assert less.total_nbytes <= ram
    # A shorter context may be the price of keeping everything in memory.
    assert less.ctx <= greater.ctx or less.resident_fraction < greater.resident_fraction == 1
    less.require_suits([layer.num_experts for layer in shape.units.layers])
    if less.ctx == greater.ctx and less.embedding == greater.embedding:
        assert slots_of(less) <= slots_of(greater)
        assert len(less.streamed_layers) >= len(greater.streamed_layers)
        assert less.forecast.decode_tok_s.value <= greater.forecast.decode_tok_s.value * 1.001


def test_everything_is_resident_where_it_fits(moe: Any) -> None:
    wishes = planner(moe)
    plan = wishes.plan(wishes.resident_budget)
    assert plan.is_resident([64] * 4)
    assert plan.prefill == "chunked"
    assert plan.resident_fraction == 1
    assert (plan.hit_rate, plan.disk_bytes_per_token) == (1, 0)
    assert plan.nbytes[Kind.IO_BUFFERS] == 0
    assert not wishes.plan(wishes.resident_budget - 1).is_resident([64] * 4)


@pytest.mark.parametrize("more", [0, 1, MiB, 5 * MiB, 100 * MiB])
def test_a_context_beyond_the_common_never_makes_weights_stream(moe: Any, more: int) -> None:
    wishes = planner(moe, concurrency=40)  # 80 MiB of KV for a context of 4,096
    plan = wishes.plan(wishes.resident_budget + more)
    assert plan.is_resident([64] * 4)
    assert plan.ctx == (4096 if more == 100 * MiB else 2048 + more // (40 * 512) // 256 * 256)


def test_slots_are_even_and_what_is_left_goes_to_the_first_layers(moe: Any) -> None:
    plan = planner(moe).plan(500 * MiB)
    assert plan.embedding == "resident"
    assert plan.streamed_layers == ()
    assert plan.prefill == "layer_major"
    assert max(plan.expert_slots) - min(plan.expert_slots) <= 1
    assert list(plan.expert_slots) == sorted(plan.expert_slots, reverse=True)
    left = plan.ram - plan.total_nbytes
    assert 0 <= left < moe.units.layers[0].slot_nbytes


def test_bytes_are_those_of_the_units(moe: Any) -> None:
    plan = planner(moe, ctx=1000, reserve_nbytes=7).plan(500 * MiB)
    units = moe.units
    assert plan.nbytes[Kind.RUNTIME] == RUNTIME
    assert plan.nbytes[Kind.RESERVE] == 7
    assert plan.nbytes[Kind.KV] == kv_nbytes(moe.config, "f16", 1000)
    assert plan.nbytes[Kind.EXPERT_SLOTS] == slots_of(plan) * units.layers[0].slot_nbytes
    assert 0 < plan.resident_fraction < 1
    dense = units.vectors_nbytes + units.head_nbytes + units.embedding_nbytes
    assert plan.nbytes[Kind.DENSE_WEIGHTS] == dense + sum(layer.dense_nbytes for layer in units.layers)


def test_the_embedding_goes_by_row_before_any_layer_streams(moe: Any) -> None:
    wishes = planner(moe, ctx=256)
    plans = [wishes.plan(ram) for ram in range(wishes.smallest_budget, 200 * MiB, MiB)]
    states = [(plan.embedding, bool(plan.streamed_layers)) for plan in plans]
    order = [("rows", True), ("rows", False), ("resident", False)]
    assert sorted(states, key=order.index) == states
    assert set(states) == set(order)
    assert min(min(plan.expert_slots) for plan in plans) == 2


def test_an_embedding_that_is_the_head_stays(dense: Any) -> None:
    plan = planner(dense).plan(planner(dense).smallest_budget)
    assert plan.embedding == "resident"
    assert plan.streamed_layers == tuple(range(10))


def test_dense_layers_stream_through_two_buffers_and_the_first_are_kept(dense: Any) -> None:
    plan = planner(dense, ctx=256).plan(RUNTIME + 16 * MiB + 20 * MiB + 60 * MiB)
    assert plan.stream_buffers == 2
    kept = 10 - len(plan.streamed_layers)
    assert 0 < kept < 10
    assert plan.streamed_layers == tuple(range(kept, 10))
    slot = dense.units.layers[0].dense_slot_nbytes
    assert plan.nbytes[Kind.IO_BUFFERS] == 2 * slot
    assert plan.disk_bytes_per_token == (10 - kept) * dense.units.layers[0].dense_nbytes


def test_a_placement_chooses_which_layers_stay(dense: Any) -> None:
    @dataclass(frozen=True)
    class Last(Placement):
        def choose(self, units: Sequence[PlacedUnit], nbytes: int) -> Sequence[UnitKey]:
            return [unit.key for unit in units][-(nbytes // units[0].nbytes) :]

    with PLACEMENTS.adding("last", Last()):
        wishes = planner(dense, ctx=256, policies=PolicyNames(placement="last"))
        plan = wishes.plan(RUNTIME + 16 * MiB + 20 * MiB + 60 * MiB)
    assert 0 < len(plan.streamed_layers) < 10
    assert plan.streamed_layers == tuple(range(len(plan.streamed_layers)))


def test_what_cannot_stream_stays(moe: Any, dense: Any) -> None:
    from dataclasses import replace

    layers = tuple(replace(layer, experts=(), slot_nbytes=0) for layer in moe.units.layers)
    stuck = replace(moe.units, layers=layers, why_not=("x is kept as y",))
    wishes = Planner(moe.config, stuck, RUNTIME, 2)
    plan = wishes.plan(wishes.smallest_budget)
    assert plan.expert_slots == (64,) * 4
    with pytest.raises(DoesNotFit, match="packing the model first helps, for x is kept as y"):
        wishes.plan(wishes.smallest_budget - 1)
    layers = tuple(replace(layer, dense=None) for layer in dense.units.layers)
    wishes = Planner(dense.config, replace(dense.units, layers=layers), RUNTIME, 2)
    assert wishes.smallest_budget == wishes.arranger.resident(256).total_nbytes


def test_the_context_is_an_eighth_of_the_budget_at_most_but_what_is_common_where_that_fits(moe: Any) -> None:
    each = kv_nbytes(moe.config, "f16", 256) // 256
    wishes = planner(moe)
    smallest = wishes.smallest_budget
    assert wishes.plan(smallest).ctx == 256
    assert wishes.plan(wishes.arranger.least_nbytes(2048)).ctx == 2048
    large = wishes.plan(GiB)
    assert large.ctx == 4096  # what it was trained for
    assert planner(moe, concurrency=80).plan(GiB).ctx == GiB // 8 // (80 * each) // 256 * 256


def test_a_context_that_is_asked_for_is_kept_or_refused(moe: Any) -> None:
    assert planner(moe, ctx=777).plan(500 * MiB).ctx == 777
    for ctx in (0, 4097):
        with pytest.raises(UsageError, match="choose 1 to 4096"):
            planner(moe, ctx=ctx)


def test_a_refusal_names_what_would_do_and_how_fast_that_is(moe: Any) -> None:
    wishes = planner(moe, ctx=4096, model="a.gguf")
    ram = wishes.smallest_budget - MiB
    with pytest.raises(
        DoesNotFit, match=r"a\.gguf does not fit.*--ram \d+MiB would do.*tok/s; or --ctx \d+"
    ) as caught:
        wishes.plan(ram)
    numbers = caught.value.numbers
    assert numbers["smallest_budget"] == wishes.smallest_budget
    assert numbers["decode_tok_s"] > 0
    words = str(caught.value)
    shorter = int(words.split("or --ctx ")[1].split(";")[0])
    assert planner(moe, ctx=shorter).plan(ram).ctx == shorter
    enough = int(words.split("--ram ")[1].split("MiB")[0]) * MiB
    assert planner(moe, ctx=4096).plan(enough)


def test_the_hit_rate_stands_with_its_source(moe: Any) -> None:
    plan = planner(moe, hit_rates=uniform()).plan(500 * MiB)
    assert plan.hit_rate == pytest.approx(slots_of(plan) / 256)
    assert "worst case" in plan.hit_rate_source
    stated_plan = planner(moe, hit_rates=stated(0.9)).plan(500 * MiB)
    assert stated_plan.hit_rate == pytest.approx(0.9)
    assert stated_plan.forecast.decode_tok_s.value > plan.forecast.decode_tok_s.value


def test_the_order_of_prefill_can_be_chosen_where_weights_stream(moe: Any) -> None:
    chunked = planner(moe, prefill="chunked", ctx=4096).plan(500 * MiB)
    usual = planner(moe, ctx=4096).plan(500 * MiB)
    assert (chunked.prefill, usual.prefill) == ("chunked", "layer_major")
    assert chunked.nbytes[Kind.WORKSPACE] < usual.nbytes[Kind.WORKSPACE]


def test_a_plan_says_what_its_forecast_is_reckoned_with(dense: Any) -> None:
    plan = planner(dense, disk_rate=2e9).plan(GiB)
    assert "nothing was measured" in plan.forecast.basis
    assert "2.00 GB/s as stated" in plan.forecast.basis
    assert plan.hit_rate_source == "the model has no experts"
