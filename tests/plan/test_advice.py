from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from tests.plan.conftest import EXPERT_NBYTES, unit_of

from apportion.core.claim import Kind
from apportion.core.units import GiB, KiB, MiB, format_bytes, parse_bytes
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import DiskProfile, DiskRate, Profile, Range
from apportion.hardware.storage import FileSystem
from apportion.plan.estimate import logits_nbytes
from apportion.plan.planner import Planner

RUNTIME = 40 * MiB
LINE = re.compile(r"(.+): ([0-9.e+]+) -> ([0-9.e+]+) tok/s")


def planner(shape: Any, **wishes: Any) -> Planner:
    return Planner(shape.config, shape.units, RUNTIME, 2, **{"disk_rate": 1e9, **wishes})


def told(lines: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    found = [LINE.fullmatch(line) for line in lines]
    assert all(found), lines
    return {match[1]: (float(match[2]), float(match[3])) for match in found if match}


def test_a_plan_that_keeps_everything_needs_no_advice(moe: Any) -> None:
    assert planner(moe).plan(2 * GiB).advice == ()


def test_more_memory_is_advised_with_the_speed_that_a_plan_would_have_then(moe: Any) -> None:
    wishes = planner(moe, ctx=1024)
    plan = wishes.plan(400 * MiB)
    *_, (words, (before, after)), (all_words, (_, fastest)) = told(plan.advice).items()
    assert before == pytest.approx(plan.forecast.decode_tok_s.value, rel=0.01)
    more = wishes.plan(400 * MiB + parse_bytes(words.removeprefix("+")))
    assert after == pytest.approx(more.forecast.decode_tok_s.value, rel=0.01)
    assert after >= 1.1 * before
    missing = format_bytes(wishes.resident_budget - 400 * MiB)
    assert all_words == f"+{missing}, which keeps everything in memory"
    assert fastest > after


def test_layers_that_stream_are_told_what_would_keep_them(dense: Any) -> None:
    lines = told(planner(dense, ctx=1024).plan(140 * MiB).advice)
    assert any("keeps everything" in words for words in lines)


def test_a_shorter_context_and_smaller_kv_are_advised_where_they_help(moe: Any) -> None:
    lines = told(planner(moe, ctx=4096, kv="f32", concurrency=60).plan(800 * MiB).advice)
    assert list(lines)[:3] == ["--ctx 2048", "--kv f16", "--concurrency 30"]
    for before, after in lines.values():
        assert after >= 1.05 * before
    calm = told(planner(moe, ctx=4096).plan(400 * MiB).advice)
    assert not any(words.startswith("--") for words in calm)


def test_fewer_sequences_are_advised_where_they_leave_room_for_the_weights(dense: Any) -> None:
    """As many as just do: one more, and weights would stream again."""
    wishes = planner(dense, ctx=1024, concurrency=16)
    each = wishes.plan(wishes.resident_budget).nbytes[Kind.KV] // 16 + logits_nbytes(dense.config)
    ram = wishes.resident_budget - 4 * each - 1
    words, (before, after) = next(iter(told(wishes.plan(ram).advice).items()))
    fewer = int(words.removeprefix("--concurrency "))
    assert fewer == 11
    assert after > before
    assert replace(wishes, concurrency=fewer).plan(ram).resident_fraction == 1
    assert replace(wishes, concurrency=fewer + 1).plan(ram).resident_fraction < 1
    alone = told(replace(wishes, concurrency=1).plan(140 * MiB).advice)
    assert not any("--concurrency" in words for words in alone)


def test_packing_is_advised_where_small_reads_are_slow(moe: Any) -> None:
    rates = (
        DiskRate(256 * KiB, 1, False, Range(0.2, 0.2, 0.2)),
        DiskRate(256 * KiB, 8, False, Range(0.4, 0.4, 0.4)),
        DiskRate(MiB, 1, False, Range(2.0, 2.0, 2.0)),
        DiskRate(MiB, 8, False, Range(2.0, 2.0, 2.0)),
    )
    system = FileSystem("259:2", "/", "ext4", "", GiB, False, None)
    profile = Profile(
        "",
        (),
        2,
        MemoryLimits(GiB, GiB, None, None),
        {1: 10.0, 2: 20.0},
        {"int8": 400.0, "f32": 100.0},
        {},
        DiskProfile(system, "ring", True, GiB, rates, ()),
        "2026-01-02",
    )
    expert = unit_of(EXPERT_NBYTES, stretches=12)
    layers = tuple(replace(layer, experts=(expert,) * 64) for layer in moe.units.layers)
    pieces = replace(moe, units=replace(moe.units, layers=layers))
    lines = told(planner(pieces, disk_rate=None, profile=profile).plan(400 * MiB).advice)
    before, after = lines["packed by `apportion pack`"]
    assert after > 2 * before
