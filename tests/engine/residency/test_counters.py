from __future__ import annotations

from pathlib import Path

import numpy as np
from tests.engine.residency.conftest import Load, logits_of


def test_uses_of_single_experts_add_up_to_what_is_counted_of_all(load: Load, moe: Path) -> None:
    streamed = load(moe, 3)
    logits_of(streamed.model)
    counters, uses = streamed.residency.counters, streamed.residency.expert_uses()
    assert uses.keys() == streamed.residency.resident_experts().keys()
    hits = sum(sum(layer.hits) for layer in uses.values())
    misses = sum(sum(layer.misses) for layer in uses.values())
    assert hits == counters.hits + counters.prefill_hits > 0
    assert misses == counters.misses + counters.prefill_misses > 0
    assert min(min(layer.misses) for layer in uses.values()) >= 0


def test_every_token_of_decode_asks_for_as_many_experts_as_it_has(load: Load, moe: Path) -> None:
    streamed = load(moe, 8)  # everybody has a slot, and is read once
    logits_of(streamed.model, prompt=1, steps=12)
    layers = streamed.residency.expert_uses()
    asked = sum(np.add(layer.hits, layer.misses).sum() for layer in layers.values())
    assert asked == len(layers) * 13 * streamed.residency.experts_per_token


def test_each_expert_that_was_waited_for_has_a_load_time(load: Load, moe: Path) -> None:
    streamed = load(moe, 3)
    logits_of(streamed.model)
    load_s = streamed.residency.counters.load_s
    assert load_s.num_values > 0
    assert load_s.total > 0


def test_stalls_are_told_apart_by_what_was_waited_for(load: Load, moe: Path) -> None:
    experts, layers = load(moe, 3).residency, load(moe, None, (0, 1, 2))
    logits_of(layers.model)
    counters = layers.residency.counters
    assert counters.layer_stall_s > 0
    assert counters.expert_stall_s == counters.row_stall_s == 0
    assert counters.stall_s == counters.layer_stall_s
    rows = load(moe, None, (), embedding="rows")
    logits_of(rows.model)
    assert rows.residency.counters.row_stall_s > 0
    assert experts.counters.stall_s == 0


def test_slots_are_counted_over_all_layers(load: Load, moe: Path) -> None:
    residency = load(moe, 3).residency
    assert residency.num_slots == 3 * len(residency.expert_uses())


def test_the_layer_that_a_run_has_come_to_is_told(load: Load, moe: Path) -> None:
    streamed = load(moe, 3)
    seen: list[int] = []
    streamed.residency.on_route = lambda layer, ids: seen.append(streamed.residency.layer)
    logits_of(streamed.model, steps=1)
    assert sorted(set(seen)) == [0, 1]  # asked before each layer's own experts
    assert streamed.residency.layer == 0
