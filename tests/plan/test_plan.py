from __future__ import annotations

import json
from dataclasses import replace

import pytest

from apportion.core.claim import Kind
from apportion.core.errors import UsageError
from apportion.core.units import MiB
from apportion.plan import Plan

EXPERTS = (0, 64, 64, 64)


def test_what_is_spoken_for_is_the_sum_of_all_kinds(plan: Plan) -> None:
    assert plan.total_nbytes == 919 * MiB
    assert plan.total_nbytes <= plan.ram


def test_it_tells_itself_as_json_with_flat_figures_and_their_ranges(plan: Plan) -> None:
    told = json.loads(json.dumps(plan.to_dict()))
    assert told["forecast"]["decode_tok_s"] == 6.5
    assert told["forecast"]["ranges"]["decode_tok_s"] == [5.0, 7.25]
    assert set(told["bytes"]) == {str(kind) for kind in Kind}
    assert told["hit_rate"] == 0.2


def test_a_plan_suits_the_model_that_it_was_made_for(plan: Plan) -> None:
    plan.require_suits(EXPERTS)
    replace(plan, expert_slots=(0, 64, 64, 64)).require_suits(EXPERTS)


@pytest.mark.parametrize(
    ("slots", "streamed", "words"),
    [
        ((0, 13, 13), (), "number of layers differs"),
        ((0, 13, 65, 12), (), "layer 2 has fewer experts"),
        ((2, 13, 13, 12), (), "layer 0 has fewer experts"),
        ((0, 13, 1, 12), (), "layer 2 needs 2 slots at least"),
        ((0, 13, 13, 12), (1, 4), "does not exist"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused_with_the_layer(
    plan: Plan, slots: tuple[int, ...], streamed: tuple[int, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        replace(plan, expert_slots=slots, streamed_layers=streamed).require_suits(EXPERTS)


def test_a_layer_of_one_expert_needs_one_slot(plan: Plan) -> None:
    replace(plan, expert_slots=(0, 1, 13, 12)).require_suits((0, 1, 64, 64))


def test_it_is_resident_when_nothing_is_read_after_loading(plan: Plan) -> None:
    assert not plan.is_resident(EXPERTS)
    whole = replace(plan, embedding="resident", expert_slots=EXPERTS, streamed_layers=())
    assert whole.is_resident(EXPERTS)
    assert not replace(whole, embedding="rows").is_resident(EXPERTS)
    assert not replace(whole, streamed_layers=(1,)).is_resident(EXPERTS)
