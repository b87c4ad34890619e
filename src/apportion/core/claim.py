"""Claims: how many bytes of which tier somebody wants, and what for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from apportion.core.units import format_bytes


class Tier(StrEnum):
    """Where bytes can lie; the words that users type."""

    GPU = "gpu"
    RAM = "ram"
    DISK = "disk"


class Kind(StrEnum):
    """What bytes are for. Every budget is divided among these and nothing else."""

    RUNTIME = "runtime"  # the interpreter, libraries, what is too small to be counted singly
    DENSE_WEIGHTS = "dense_weights"
    EXPERT_SLOTS = "expert_slots"
    KV = "kv"
    WORKSPACE = "workspace"
    IO_BUFFERS = "io_buffers"
    RESERVE = "reserve"  # kept free on purpose


@dataclass(frozen=True, slots=True)
class Claim:
    """`nbytes` bytes of `tier`, for `kind`."""

    kind: Kind
    nbytes: int
    tier: Tier = Tier.RAM

    def __post_init__(self) -> None:
        assert self.nbytes >= 0, self

    def __str__(self) -> str:
        return f"{format_bytes(self.nbytes)} of {self.tier} for {self.kind}"


def total_by_place(claims: Iterable[Claim]) -> dict[tuple[Tier, Kind], int]:
    """Bytes by tier and kind, without those that come to nothing."""
    totals: dict[tuple[Tier, Kind], int] = {}
    for claim in claims:
        if claim.nbytes:
            place = (claim.tier, claim.kind)
            totals[place] = totals.get(place, 0) + claim.nbytes
    return totals


def total_by_tier(claims: Iterable[Claim]) -> dict[Tier, int]:
    """Bytes by tier, without those that come to nothing."""
    totals: dict[Tier, int] = {}
    for (tier, _), nbytes in total_by_place(claims).items():
        totals[tier] = totals.get(tier, 0) + nbytes
    return totals
