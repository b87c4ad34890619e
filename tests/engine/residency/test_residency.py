from __future__ import annotations

import errno
import gc
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, Loaded, logits_of, whole
from tests.models.tiny import IN_GGUF, tiny_gguf

from apportion.core.claim import Kind, Tier
from apportion.core.errors import ApportionError, BrokenOff, DiskFault, DiskStuck
from apportion.memory import ReadFault
from apportion.plan import PolicyNames, crowd
from apportion.policies import EXPERT_CACHES, LOAD_ORDERS
from apportion.policies.prediction import Prediction

LIVE_CACHES = [name for name in EXPERT_CACHES if not EXPERT_CACHES.get(name).oracle]


@pytest.mark.parametrize("block_format", ["f32", "q8_0", "q4_0"])
@pytest.mark.parametrize("name", IN_GGUF)
def test_a_model_that_streams_whatever_it_can_computes_the_same_numbers(
    load: Load, name: str, block_format: str, tmp_path: Path
) -> None:
    path = tiny_gguf(name, tmp_path, block_format=block_format)
    streamed = load(path, 3, range(3), buffers=2)
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(path)))
    assert streamed.residency.counters.layer_reads >= 3


@pytest.mark.parametrize("slots", [2, 3, 5, 7])
def test_every_number_of_slots_gives_the_same_numbers(load: Load, moe: Path, slots: int) -> None:
    streamed = load(moe, slots)
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))
    counters = streamed.residency.counters
    assert counters.misses > 0
    assert all(len(experts) <= slots for experts in streamed.residency.resident_experts().values())


@pytest.mark.parametrize("load_order", LOAD_ORDERS)
@pytest.mark.parametrize("cache", LIVE_CACHES)
def test_no_policy_changes_a_number(load: Load, moe: Path, cache: str, load_order: str) -> None:
    policies = PolicyNames(expert_cache=cache, load_order=load_order)
    streamed = load(moe, 3, policies=policies)
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))


@pytest.mark.parametrize("buffers", [2, 3, 5])
def test_layers_pass_through_any_number_of_buffers(load: Load, dense: Path, buffers: int) -> None:
    streamed = load(dense, None, (0, 1, 2), buffers=buffers)
    expected = logits_of(whole(dense))
    np.testing.assert_array_equal(logits_of(streamed.model), expected)
    np.testing.assert_array_equal(logits_of(streamed.model), expected)


def test_layers_that_all_have_a_buffer_are_read_once(load: Load, dense: Path) -> None:
    streamed = load(dense, None, (1, 2), buffers=2)
    logits_of(streamed.model)
    assert streamed.residency.counters.layer_reads == 2


def test_the_embedding_is_read_row_by_row(load: Load, dense: Path) -> None:
    streamed = load(dense, None, (), embedding="rows")
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(dense)))


def test_a_prompt_that_passes_in_chunks_computes_the_same_numbers(load: Load, moe: Path) -> None:
    streamed = load(moe, 3, (1,), embedding="rows")
    streamed.residency.chunk = 7
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))


@pytest.mark.parametrize("chunk", [512, 16])
def test_many_sequences_in_one_pass_are_as_each_alone(load: Load, moe: Path, chunk: int) -> None:
    streamed, rng = load(moe, 3, (1,)), np.random.default_rng(4)
    model, reference = streamed.model, whole(moe)
    streamed.residency.chunk = chunk
    ids = [rng.integers(0, model.config.vocab_size, count).astype(np.int32) for count in (40, 1, 33, 9)]
    caches = [model.new_cache(64) for _ in ids]
    logits = model.run(np.concatenate(ids), [c.segment(len(i)) for c, i in zip(caches, ids, strict=True)])
    for cache, own in zip(caches, ids, strict=True):
        cache.advance(len(own))
    step = logits.argmax(axis=1).astype(np.int32)
    more = model.run(step, [cache.segment(1) for cache in caches])
    for own, row, token, after in zip(ids, logits, step, more, strict=True):
        alone = reference.new_cache(64)
        np.testing.assert_array_equal(reference.forward(own, alone)[0], row)
        np.testing.assert_array_equal(reference.forward(np.array([token]), alone)[0], after)


@pytest.mark.parametrize("count", [20, 60])
def test_a_prompt_reads_each_expert_once_at_most(load: Load, moe: Path, count: int) -> None:
    streamed = load(moe, 3)
    model, counters = streamed.model, streamed.residency.counters
    ids = np.random.default_rng(3).integers(0, model.config.vocab_size, count).astype(np.int32)
    for _ in range(3):
        before = counters.prefill_misses
        model.forward(ids, model.new_cache(count))
        assert 0 < counters.prefill_misses - before <= 3 * 8


def test_a_prompt_uses_what_is_in_slots_that_nothing_is_read_into(
    load: Load, moe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crowd, "READ_AHEAD_NBYTES", 0)
    streamed = load(moe, 6)
    model, counters = streamed.model, streamed.residency.counters
    ids = np.random.default_rng(3).integers(0, model.config.vocab_size, 60).astype(np.int32)
    model.forward(ids, model.new_cache(60))
    assert (counters.prefill_hits, counters.prefill_misses) == (0, 3 * 8)
    model.forward(ids, model.new_cache(60))
    assert (counters.prefill_hits, counters.prefill_misses) == (3 * 4, 3 * 8 + 3 * 4)


@pytest.mark.parametrize(
    ("before", "chosen", "num_read"),
    [
        (range(5), range(1, 6), 1),  # all have room
        (range(6), range(7), 2),  # one has none: who makes way for it comes again
    ],
)
def test_no_more_makes_way_than_is_missing(
    load: Load, moe: Path, before: Sequence[int], chosen: Sequence[int], num_read: int
) -> None:
    streamed = load(moe, 6)
    model, counters = streamed.model, streamed.residency.counters
    for experts in (before, chosen):
        misses = counters.prefill_misses
        streamed.residency.on_route = lambda layer, ids, experts=experts: np.resize(
            np.array(experts, np.int32), ids.shape
        )
        model.forward(np.arange(40, dtype=np.int32), model.new_cache(40))
    assert counters.prefill_misses - misses == 3 * num_read


def test_what_was_read_ahead_in_vain_gives_up_its_slot(load: Load, moe: Path) -> None:
    streamed = load(moe, 3)

    def few_behind_many(layer: int, ids: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        if layer == 0 and len(ids) > 1:
            return (np.arange(ids.size, dtype=np.int32) % 8).reshape(ids.shape)
        return np.tile(np.array([5, 6, 7], np.int32), (len(ids), 1))

    streamed.residency.on_route = few_behind_many
    model, counters = streamed.model, streamed.residency.counters
    model.forward(np.arange(40, dtype=np.int32), model.new_cache(40))
    for _ in range(3):
        model.forward(np.array([1], np.int32), model.new_cache(1))
    assert counters.misses <= 3, "layer 0 alone had other experts last"
    assert all(set(held) == {5, 6, 7} for held in streamed.residency.resident_experts().values())


def test_all_of_the_slots_can_be_had_again_after_reading_ahead_in_vain(load: Load, moe: Path) -> None:
    streamed = load(moe, 6)
    streamed.residency.on_route = lambda layer, ids: (
        (np.arange(ids.size, dtype=np.int32) % 8).reshape(ids.shape)
        if layer == 0 and len(ids) > 1
        else np.tile(np.array([5, 6, 7], np.int32), (len(ids), 1))
    )
    model = streamed.model
    model.forward(np.arange(40, dtype=np.int32), model.new_cache(40))
    for _ in range(20):
        model.forward(np.array([1], np.int32), model.new_cache(1))
        time.sleep(0.005)  # for what nobody waits for
    held = streamed.residency.resident_experts()[1]
    assert {5, 6, 7} < set(held)
    assert len(held) == 6


@pytest.mark.parametrize(("chosen", "ahead"), [(8, True), (4, False)])
def test_only_a_crowd_has_the_next_layer_read_ahead(load: Load, moe: Path, chosen: int, ahead: bool) -> None:
    streamed = load(moe, 6)
    streamed.residency.on_route = lambda layer, ids: (np.arange(ids.size, dtype=np.int32) % chosen).reshape(
        ids.shape
    )
    streamed.model.forward(np.arange(40, dtype=np.int32), streamed.model.new_cache(40))
    assert (streamed.residency.reader.stats().num_prefetches > 0) == ahead


def test_what_was_used_last_is_found_in_its_slot(load: Load, moe: Path) -> None:
    streamed = load(moe, 6)
    model = streamed.model
    for _ in range(4):
        model.forward(np.array([7], np.int32), model.new_cache(1))
    counters = streamed.residency.counters
    assert (counters.hits, counters.misses) == (3 * 3 * 3, 3 * 3)  # repetitions, layers, experts per token
    assert counters.hit_rate == pytest.approx(0.75)


class Decoding:
    """Tokens one by one, and how often a layer had to ask."""

    def __init__(self, streamed: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
        self.num_asked = 0
        self._model = streamed.model
        acquire = streamed.residency.acquire

        def counted(*args: Any) -> Any:
            self.num_asked += 1
            return acquire(*args)

        monkeypatch.setattr(streamed.residency, "acquire", counted)

    def logits(self, count: int) -> list[np.ndarray]:  # type: ignore[type-arg]
        kv = self._model.new_cache(count)
        return [self._model.forward(np.array([token % 40], np.int32), kv) for token in range(count)]


@pytest.mark.parametrize("load_order", LOAD_ORDERS)
@pytest.mark.parametrize("cache", LIVE_CACHES)
def test_a_token_passes_layers_as_was_decided_ahead(
    load: Load, moe: Path, cache: str, load_order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(passes: bool) -> tuple[object, ...]:
        streamed = load(moe, 5, policies=PolicyNames(expert_cache=cache, load_order=load_order))
        residency = streamed.residency
        if not passes:
            residency.on_route = lambda layer, ids: None
        decoding = Decoding(streamed, monkeypatch)
        logits = decoding.logits(120)
        if not passes:
            assert decoding.num_asked == 3 * 120
        elif LOAD_ORDERS.get(load_order).as_asked:
            assert decoding.num_asked == 3, "the first token, of which nothing was decided ahead"
        else:
            assert 3 < decoding.num_asked < 3 * 120
        counters, uses = residency.counters, residency.expert_uses()
        return (
            np.concatenate(logits).tolist(),
            residency.resident_experts(),
            (counters.hits, counters.misses),
            {layer: (one.hits, one.misses) for layer, one in uses.items()},
        )

    assert decoded(True) == decoded(False)


@pytest.mark.parametrize("fault", [ReadFault(40, 30, errno=errno.EIO), ReadFault(40, delay_s=0.5)])
def test_a_token_that_passes_layers_tells_what_does_not_come(
    load: Load, moe: Path, fault: ReadFault, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Decoding(load(moe, 3), monkeypatch).logits(30)
    streamed = load(moe, 3, faults=[fault], stuck_after_s=0.1)
    decoding = Decoding(streamed, monkeypatch)
    with pytest.raises(DiskStuck if fault.delay_s else DiskFault) as caught:
        decoding.logits(30)
    assert str(moe) in str(caught.value)
    assert decoding.num_asked == 3
    time.sleep(0.6 if fault.delay_s else 0)
    for _ in range(8):  # more reads may fail
        with suppress(DiskFault):
            decoding.logits(1)
    np.testing.assert_array_equal(decoding.logits(30), expected)
    assert all(len(held) == 3 for held in streamed.residency.resident_experts().values())


@pytest.mark.parametrize("passes", [True, False])
def test_a_token_that_waits_for_the_disk_can_be_broken_off(
    load: Load, moe: Path, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Decoding(load(moe, 3), monkeypatch).logits(30)
    streamed = load(moe, 3, faults=[ReadFault(40, delay_s=1.5)])
    if not passes:
        streamed.residency.on_route = lambda layer, ids: None
    decoding = Decoding(streamed, monkeypatch)
    end = time.monotonic() + 0.5
    streamed.residency.is_wanted = lambda: time.monotonic() < end
    with pytest.raises(BrokenOff):
        decoding.logits(30)
    assert time.monotonic() < end + 0.5
    with pytest.raises(ValueError, match="have not been started"):
        streamed.model._program()._native.pass_on()  # type: ignore[attr-defined]
    streamed.residency.is_wanted = None
    np.testing.assert_array_equal(decoding.logits(30), expected)


def test_a_token_passes_layers_in_the_slots_that_are_left(
    load: Load, moe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = load(moe, 6)
    decoding = Decoding(streamed, monkeypatch)
    expected = decoding.logits(30)
    streamed.ledger.set_limit(Tier.RAM, streamed.ledger.account().tiers[Tier.RAM].used * 2 // 3)
    np.testing.assert_array_equal(decoding.logits(30), expected)
    held = [len(experts) for experts in streamed.residency.resident_experts().values()]
    assert sum(held) == streamed.residency.num_slots < 18
    assert decoding.num_asked == 3


def test_the_ledger_has_the_slots_to_the_byte(load: Load, moe: Path) -> None:
    streamed = load(moe, 3, (0, 1, 2), embedding="rows")
    by_kind = streamed.ledger.account().tiers[Tier.RAM].by_kind
    slot = max(layer.slot_nbytes for layer in units_of(moe).layers)
    assert by_kind[Kind.EXPERT_SLOTS] == 3 * 3 * slot
    assert by_kind[Kind.IO_BUFFERS] > 0
    streamed.residency.close()
    held = streamed.ledger.account().tiers[Tier.RAM].by_kind
    assert Kind.EXPERT_SLOTS not in held


def test_slots_are_given_back_when_the_limit_is_lowered(load: Load, moe: Path) -> None:
    streamed = load(moe, 6)
    expected = logits_of(streamed.model)
    used = streamed.ledger.account().tiers[Tier.RAM].used
    assert streamed.ledger.set_limit(Tier.RAM, used // 2) == 0
    assert streamed.ledger.account().tiers[Tier.RAM].used <= used // 2
    np.testing.assert_array_equal(logits_of(streamed.model), expected)
    assert streamed.ledger.set_limit(Tier.RAM, 0) > 0, "two slots of each layer stay"
    np.testing.assert_array_equal(logits_of(streamed.model), expected)


@pytest.mark.parametrize(
    "fault",
    [
        ReadFault(2, errno=errno.EIO),
        ReadFault(0, 40, short=True),
        ReadFault(5, 3, delay_s=0.02),
    ],
    ids=["one error", "short reads", "slow reads"],
)
def test_faults_that_pass_change_no_number(load: Load, moe: Path, fault: ReadFault) -> None:
    streamed = load(moe, 3, (1,), faults=[fault])
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))


def test_after_a_read_that_fails_for_good_the_next_run_is_right(load: Load, moe: Path) -> None:
    streamed = load(moe, 3, (1,), faults=[ReadFault(9, 30, errno=errno.EIO)])
    with pytest.raises(DiskFault) as caught:
        logits_of(streamed.model)
    assert str(moe) in str(caught.value)
    for _ in range(8):  # what failed may have been read ahead for the next run
        try:
            found = logits_of(streamed.model)
            break
        except ApportionError:
            continue
    np.testing.assert_array_equal(found, logits_of(whole(moe)))


def test_a_read_that_is_stuck_is_an_error_and_not_a_hang(load: Load, moe: Path) -> None:
    fault = ReadFault(4, delay_s=0.5)
    streamed = load(moe, 3, faults=[fault], stuck_after_s=0.1)
    with pytest.raises(DiskStuck):
        logits_of(streamed.model)
    time.sleep(0.6)  # the read returns after all
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))


def test_routes_can_be_told_and_replaced(load: Load, moe: Path) -> None:
    streamed = load(moe, 4)
    seen: list[tuple[int, list[int]]] = []

    def always(layer: int, ids: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        seen.append((layer, ids[0].tolist()))
        return np.tile(np.arange(3, dtype=np.int32), (len(ids), 1))

    streamed.residency.on_route = always
    model = streamed.model
    for _ in range(3):
        model.forward(np.array([3], np.int32), model.new_cache(1))
    assert [layer for layer, _ in seen] == [0, 1, 2] * 3
    assert streamed.residency.counters.misses == 3 * 3
    assert set(streamed.residency.resident_experts()[1]) == {0, 1, 2}


def test_what_is_predicted_is_read_ahead_and_changes_no_number(load: Load, moe: Path) -> None:
    streamed = load(moe, 4)
    told: list[tuple[int, Any, Any]] = []

    class NextLayerAlike(Prediction):
        """What tokens score highest in a layer is guessed for the next one."""

        def predict(
            self, layer: int, router_input: Any, scores: Any, experts: Sequence[int]
        ) -> Sequence[tuple[int, int]]:
            told.append((layer, router_input.copy(), scores.copy()))
            return [(layer + 1, int(scores[-1].argmax())), (99, 0), (layer, 10_000)]

    streamed.residency._prediction = NextLayerAlike()
    streamed.residency.watches_routers = True
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))
    assert [layer for layer, _, _ in told[:3]] == [0, 1, 2]
    config = streamed.model.config
    assert config.experts is not None
    for _, router_input, scores in told:
        assert router_input.shape == (len(scores), config.hidden_size)
        assert scores.shape[1] == config.experts.num_experts
        assert np.isfinite(scores).all()
        assert scores.std() > 0
    assert streamed.residency.reader.stats().num_prefetches > 0


def test_what_is_predicted_for_the_layer_itself_is_passed_over(load: Load, moe: Path) -> None:
    streamed = load(moe, 4)

    class Everyone(Prediction):
        def predict(
            self, layer: int, router_input: Any, scores: Any, experts: Sequence[int]
        ) -> Sequence[tuple[int, int]]:
            return [(layer, expert) for expert in range(8)]

    streamed.residency._prediction = Everyone()
    streamed.residency.watches_routers = True
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(moe)))


def test_closing_twice_and_dropping_the_model_gives_all_memory_back(load: Load, dense: Path) -> None:
    streamed = load(dense, None, (0, 1, 2))
    logits_of(streamed.model)
    streamed.residency.close()
    streamed.residency.close()
    gc.collect()


def units_of(path: Path):  # type: ignore[no-untyped-def]
    from apportion.formats import open_checkpoint
    from apportion.models import config_from_checkpoint
    from apportion.models.units import model_units

    with open_checkpoint(path) as checkpoint:  # type: ignore[attr-defined]
        return model_units(config_from_checkpoint(checkpoint), checkpoint.tensors)
