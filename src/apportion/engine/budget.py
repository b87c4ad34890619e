"""A budget carried out: the plan for a checkpoint, the leases that it is made of, and the residency."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.core.claim import Claim, Kind, Tier
from apportion.core.errors import ApportionError
from apportion.core.keys import dense_key
from apportion.core.resident import rss_bytes
from apportion.engine.residency import Residency
from apportion.hardware.profile import Profile, load_profile
from apportion.hardware.storage import file_system
from apportion.memory import Ledger, ReadFault
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits, model_units
from apportion.plan import Plan, PolicyNames
from apportion.plan.planner import make_plan
from apportion.policies import PLACEMENTS
from apportion.policies.placement import PlacedUnit

if TYPE_CHECKING:
    from apportion.formats.checkpoint import Checkpoint
    from apportion.plan.plan import KvType


@dataclass(frozen=True, slots=True)
class Budget:
    """What a caller allows, and which policies divide it.

    Args:
        ram: bytes of RAM that the whole process may take.
        ctx: positions of the context; None lets the budget decide.
        policies: that decide; the baselines unless chosen.
        plan: carried out in place of one made here; the other fields then say nothing.
        faults: for tests: which reads of streamed weights go wrong.
        stuck_after_s: a read that takes longer fails.
    """

    ram: int
    ctx: int | None = None
    kv: KvType = "f16"
    policies: PolicyNames = field(default_factory=PolicyNames)
    plan: Plan | None = None
    faults: Sequence[ReadFault] = ()
    stuck_after_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Apportioned:
    """A plan in force.

    Attributes:
        ledger: the account of it; what comes and goes is leased by `residency`.
        residency: None where everything stays in memory.
    """

    plan: Plan
    ledger: Ledger
    residency: Residency | None

    def close(self) -> None:
        """Give everything back."""
        if self.residency is not None:
            self.residency.close()


def apportion(
    checkpoint: Checkpoint, config: ModelConfig, budget: Budget, threads: int, name: str = ""
) -> Apportioned:
    """Divide a budget for a checkpoint and lease what it is divided into, before weights are read.

    Raises:
        DoesNotFit: the budget is too small; the error names the smallest that would do.
        UsageError: a plan that was given is for another model.
    """
    units = model_units(config, checkpoint.tensors)
    runtime = rss_bytes()
    plan = budget.plan or make_plan(
        config,
        units,
        budget.ram,
        runtime_nbytes=runtime,
        threads=threads,
        model=name,
        ctx=budget.ctx,
        kv=budget.kv,
        profile=profile_for(checkpoint.files[0]),
        policies=budget.policies,
        place=lambda layers, nbytes: placed(budget.policies.placement, layers, nbytes),
    )
    num_experts = [layer.num_experts for layer in units.layers]
    plan.require_suits(num_experts)
    ledger = Ledger({Tier.RAM: plan.ram})
    ledger.reserve(*kept_claims(units, plan, runtime))
    if plan.is_resident(num_experts):
        return Apportioned(plan, ledger, None)
    residency = Residency(
        config,
        units,
        plan,
        checkpoint.files,
        ledger,
        threads,
        faults=budget.faults,
        stuck_after_s=budget.stuck_after_s,
    )
    return Apportioned(plan, ledger, residency)


def kept_claims(units: ModelUnits, plan: Plan, runtime: int) -> tuple[Claim, ...]:
    """What stays leased as long as the model is loaded; slots and buffers lease their own."""
    experts = sum(
        layer.num_experts * layer.expert_nbytes
        for layer, slots in zip(units.layers, plan.expert_slots, strict=True)
        if slots == layer.num_experts
    )
    kinds = (Kind.DENSE_WEIGHTS, Kind.KV, Kind.WORKSPACE, Kind.RESERVE)
    return (
        Claim(Kind.RUNTIME, runtime),
        Claim(Kind.EXPERT_SLOTS, experts),
        *(Claim(kind, plan.nbytes.get(kind, 0)) for kind in kinds),
    )


def placed(policy: str, layers: Sequence[tuple[int, int]], nbytes: int) -> Collection[int]:
    """The layers whose dense parts stay, by a placement policy; of (layer, bytes), within so many bytes."""
    units = [PlacedUnit(dense_key(layer), size) for layer, size in layers]
    return [key.layer for key in PLACEMENTS.choose(policy).choose(units, nbytes)]


def profile_for(file: Path) -> Profile | None:
    """The saved profile of the device that a file lies on; None where there is none that can be used."""
    try:
        return load_profile(file_system(file).device)
    except ApportionError:
        return None
