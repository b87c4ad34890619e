"""Advice: the changes that would help a plan most, those that cost nothing first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from apportion.core.claim import Kind
from apportion.core.units import MiB, format_bytes, three_digits
from apportion.models.units import LayerUnits, ModelUnits, Stretch, Unit
from apportion.plan.arrangement import Arrangement
from apportion.plan.estimate import logits_nbytes

if TYPE_CHECKING:
    from apportion.plan.planner import Planner

WORTH = 1.05  # times the speed: less is not worth a change
WORTH_MEMORY = 1.1
SHORT_CTX = 2048
LEAST_STEP = 64 * MiB


def advice(planner: Planner, found: Arrangement, ram: int) -> tuple[str, ...]:
    """One line for each change, such as `+1 GiB: 9.1 -> 14.8 tok/s`. Nothing where all is resident."""
    speed = planner.decode_tok_s(found)
    fixed = replace(planner, ctx=found.ctx)
    lines = []
    for words, changed in _free_changes(fixed, found, ram):
        other = changed.arranged(ram)
        faster = 0.0 if other is None else changed.decode_tok_s(other)
        if faster >= WORTH * speed:
            lines.append(_line(words, speed, faster))
    return (*lines, *_memory(fixed, ram, speed))


def _free_changes(planner: Planner, found: Arrangement, ram: int) -> Iterator[tuple[str, Planner]]:
    """Changes that take no more memory."""
    if found.ctx > SHORT_CTX:
        yield f"--ctx {SHORT_CTX}", replace(planner, ctx=SHORT_CTX)
    if planner.kv == "f32":
        yield "--kv f16", replace(planner, kv="f16")
    if fewer := _fewer_sequences(planner, found, ram):
        yield f"--concurrency {fewer}", replace(planner, concurrency=fewer)
    if any(_num_reads(layer) > 1 for layer in planner.units.layers):
        yield "packed by `apportion pack`", replace(planner, units=_packed(planner.units))


def _fewer_sequences(planner: Planner, found: Arrangement, ram: int) -> int:
    """As many as leave room for all weights; half as many where not even one would; 0 where they are few."""
    missing = planner.resident_budget - ram
    each = found.nbytes[Kind.KV] // planner.concurrency + logits_nbytes(planner.config)
    if planner.concurrency == 1 or missing <= 0:
        return 0
    return max(planner.concurrency - -(-missing // each), 0) or planner.concurrency // 2


def _memory(planner: Planner, ram: int, speed: float) -> Iterator[str]:
    """The addition of memory that gives most for its size, and what it takes to keep everything."""
    missing = planner.resident_budget - ram
    if missing <= 0:
        return
    step, best = LEAST_STEP, (0.0, "")
    while step < ram // 16:
        step *= 2
    while step < missing:
        more = planner.arranged(ram + step)
        faster = 0.0 if more is None else planner.decode_tok_s(more)
        if faster >= WORTH_MEMORY * speed:
            best = max(best, ((faster - speed) / step, _line(f"+{format_bytes(step)}", speed, faster)))
        step *= 2
    if best[1]:
        yield best[1]
    whole = planner.arranged(planner.resident_budget)
    if whole is not None:
        words = f"+{format_bytes(missing)}, which keeps everything in memory"
        yield _line(words, speed, planner.decode_tok_s(whole))


def _line(words: str, before: float, after: float) -> str:
    return f"{words}: {three_digits(before)} -> {three_digits(after)} tok/s"


def _num_reads(layer: LayerUnits) -> int:
    return len(layer.experts[0].stretches) if layer.experts else 0


def _packed(units: ModelUnits) -> ModelUnits:
    """The same units with each expert in one piece, as packing lays them down."""
    layers = []
    for layer in units.layers:
        for unit in layer.experts[:1]:
            members = tuple(replace(member, stretch=0) for member in unit.members)
            packed = Unit((Stretch(0, 0, unit.nbytes),), members)
            experts = (packed,) * len(layer.experts)
            layer = replace(layer, experts=experts, slot_nbytes=packed.slot_nbytes)
        layers.append(layer)
    return replace(units, layers=tuple(layers))
