from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from apportion.core.claim import Kind
from apportion.core.errors import DoesNotFit, NotFound, UsageError
from apportion.core.units import MiB
from apportion.plan import Plan, PolicyNames, plan_from_dict
from apportion.plan.adopt import adopt_plan
from apportion.plan.planner import Planner

RUNTIME = 40 * MiB


def made(shape: Any, ram: int = 500 * MiB, **wishes: Any) -> Plan:
    return Planner(shape.config, shape.units, RUNTIME, 2, **wishes).plan(ram)


def adopted(plan: Plan, shape: Any, runtime: int = RUNTIME) -> Plan:
    return adopt_plan(plan, shape.config, shape.units, runtime_nbytes=runtime)


@pytest.mark.parametrize("kind", ["moe", "dense"])
@pytest.mark.parametrize("ram", [125 * MiB, 140 * MiB, 170 * MiB, 1500 * MiB])
def test_a_plan_that_nobody_touched_stays_as_it_is(
    request: pytest.FixtureRequest, kind: str, ram: int
) -> None:
    shape = request.getfixturevalue(kind)
    plan = made(shape, ram, ctx=256)
    assert adopted(plan_from_dict(plan.to_dict()), shape) == replace(plan, advice=())


def test_what_follows_from_an_edited_choice_is_reckoned_anew(moe: Any) -> None:
    plan = made(moe)
    fewer = replace(plan, expert_slots=(10, 10, 10, 10), ctx=1000, prefill="chunked")
    found = adopted(fewer, moe)
    assert found.expert_slots == (10, 10, 10, 10)
    assert found.prefill == "chunked"
    assert found.nbytes[Kind.EXPERT_SLOTS] == 40 * moe.units.layers[0].slot_nbytes
    assert found.nbytes[Kind.KV] < plan.nbytes[Kind.KV]
    assert found.forecast.decode_tok_s.value < plan.forecast.decode_tok_s.value


def test_the_reserve_pays_where_the_process_takes_more_than_foreseen(moe: Any) -> None:
    plan = made(moe)
    left = plan.ram - plan.total_nbytes
    found = adopted(plan, moe, RUNTIME + left + 5 * MiB)
    assert found.nbytes[Kind.RESERVE] == plan.nbytes[Kind.RESERVE] - 5 * MiB
    assert found.total_nbytes == plan.ram


def test_choices_that_exceed_the_plans_budget_are_refused(moe: Any) -> None:
    greedy = replace(made(moe), expert_slots=(64, 64, 64, 64))
    with pytest.raises(DoesNotFit, match=r"its own 500 MiB.*most of it for expert_slots"):
        adopted(greedy, moe)


def test_choices_that_the_model_does_not_allow_are_refused(moe: Any, dense: Any) -> None:
    with pytest.raises(UsageError, match="the number of layers differs"):
        adopted(made(moe), dense)
    with pytest.raises(UsageError, match="it is the head"):
        adopted(replace(made(dense), embedding="rows"), dense)
    with pytest.raises(UsageError, match="choose 1 to 4096"):
        adopted(replace(made(dense), ctx=5000), dense)
    unknown = replace(made(moe), policies=PolicyNames(expert_cache="lfuu"))
    with pytest.raises(NotFound, match="did you mean 'lfu'"):
        adopted(unknown, moe)
    stuck = replace(moe.units, layers=tuple(replace(layer, experts=()) for layer in moe.units.layers))
    with pytest.raises(UsageError, match="experts of layer 0 cannot be read as they lie"):
        adopt_plan(made(moe), moe.config, stuck, runtime_nbytes=RUNTIME)
    stuck = replace(dense.units, layers=tuple(replace(layer, dense=None) for layer in dense.units.layers))
    streaming = made(dense, 125 * MiB, ctx=256)
    with pytest.raises(UsageError, match=r"cannot stream.*pack the model first"):
        adopt_plan(streaming, dense.config, stuck, runtime_nbytes=RUNTIME)
