"""What replay says of a policy is what the engine does by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, whole

from apportion.core.errors import Unsupported
from apportion.formats.routes import RoutesWriter
from apportion.models import Model
from apportion.plan import PolicyNames
from apportion.policies import EXPERT_CACHES
from apportion.simulate.record import record_routes, shape_of
from apportion.simulate.replay import replay

LIVE_CACHES = [name for name in EXPERT_CACHES if not EXPERT_CACHES.get(name).oracle]


@pytest.mark.parametrize("cache", [*LIVE_CACHES, "lfu:while_resident=true", "lfu_aged:half_life=3"])
@pytest.mark.parametrize("slots", [3, 5])
def test_decode_has_the_hits_that_replay_counts(load: Load, moe: Path, cache: str, slots: int) -> None:
    streamed = load(moe, slots, policies=PolicyNames(expert_cache=cache))
    model, told = streamed.model, []
    streamed.residency.on_route = lambda layer, ids: told.append(ids[0].tolist())
    kv = model.new_cache(60)
    for token in np.random.default_rng(2).integers(0, model.config.vocab_size, 60):
        model.forward(np.array([token], np.int32), kv)
    experts = np.array(told).reshape(60, 3, 3)  # tokens, layers, experts of a token
    found = replay(experts, 8, slots, EXPERT_CACHES.choose(cache))
    counters = streamed.residency.counters
    assert counters.hits == sum(found.hits)
    assert counters.hit_rate == pytest.approx(found.hit_rate)


def observed(model: Model, ids: np.ndarray) -> list[tuple[int, list[np.ndarray]]]:
    """What is told of a pass, layer by layer."""
    told: list[tuple[int, list[np.ndarray]]] = []
    model.forward_observed(
        ids,
        model.new_cache(len(ids)),
        lambda layer, *parts: told.append((layer, [part.copy() for part in parts])),
    )
    return told


def test_routes_are_told_with_what_the_routers_saw(load: Load, moe: Path) -> None:
    ids = np.random.default_rng(3).integers(0, 300, 30).astype(np.int32)
    streamed, resident = observed(load(moe, 4).model, ids), observed(whole(moe), ids)
    assert [layer for layer, _ in streamed] == [layer for layer, _ in resident] == [0, 1, 2]
    for (_, ours), (_, theirs) in zip(streamed, resident, strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_a_recording_lacks_no_layer(load: Load, moe: Path, tmp_path: Path) -> None:
    model = load(moe).model  # all of its experts stay, and yet it is one whose weights may come and go
    shape = shape_of(model, "tiny", inputs=False)
    with (
        RoutesWriter(tmp_path / "x", shape) as writer,
        pytest.raises(Unsupported, match=r"layer 0 .* not told"),
    ):
        record_routes(model, [np.array([5], np.int32)], writer)


def test_what_observes_is_forgotten_after_the_run(load: Load, moe: Path) -> None:
    streamed, calls = load(moe, 4), []
    ids = np.array([5], np.int32)
    streamed.model.forward_observed(ids, streamed.model.new_cache(1), lambda *parts: calls.append(parts))
    streamed.model.forward(ids, streamed.model.new_cache(1))
    assert len(calls) == 3
