"""A budget carried out: the plan for a checkpoint, the leases that it is made of, and the residency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.core.claim import Claim, Kind, Tier
from apportion.core.errors import ApportionError, Unsupported, UsageError
from apportion.core.resident import rss_bytes
from apportion.core.units import MiB
from apportion.engine.residency import Residency
from apportion.hardware.budget import parse_budget
from apportion.hardware.memory import memory_limits
from apportion.hardware.profile import Profile, load_profile
from apportion.hardware.storage import file_system
from apportion.kernels.kv_codecs import DEFAULT
from apportion.memory import Lease, Ledger, ReadFault
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits
from apportion.plan import Plan, PolicyNames, make_plan, read_plan
from apportion.plan.adopt import adopt_plan
from apportion.plan.arrangement import RESERVE_NBYTES
from apportion.plan.estimate import BASE_NBYTES
from apportion.plan.estimate import runtime_nbytes as estimated_runtime

if TYPE_CHECKING:
    from apportion.formats.checkpoint import Checkpoint
    from apportion.plan.plan import PrefillOrder

LEAST_RESERVE_NBYTES = 6 * MiB  # what was seen to be used of the reserve is up to 4 MiB


@dataclass(frozen=True, slots=True)
class Budget:
    """What a caller allows, and which policies divide it.

    Args:
        ram: bytes of RAM that the whole process may take.
        ctx: positions of the context; None lets the budget decide.
        policies: that decide; the baselines unless chosen.
        prefill: all of a prompt's tokens pass a layer before the next, or chunk after chunk all layers.
        plan: carried out in place of one made here; the fields above then say nothing.
        beside: bytes of `ram` that the caller takes beside the model; beside_per_token for each token of the
            vocabulary.
        tells_routes: in every layer some expert has no slot, so that the routes of all layers are told.
        faults: for tests: which reads of streamed weights go wrong.
        stuck_after_s: a read that takes longer fails.
        concurrency: requests of `ctx` positions that KV has room for.
        ledger: an account that several models of the process share, whose limit is theirs together and whose
            owner pays for the process itself; what it has left is taken in place of `ram`.
    """

    ram: int
    ctx: int | None = None
    kv: str = "f16"
    policies: PolicyNames = field(default_factory=PolicyNames)
    prefill: PrefillOrder = "layer_major"
    plan: Plan | None = None
    beside: int = 0
    beside_per_token: int = 0
    tells_routes: bool = False
    faults: Sequence[ReadFault] = ()
    stuck_after_s: float = 30.0
    concurrency: int = 1
    ledger: Ledger | None = None

    @property
    def available(self) -> int:
        """Bytes that the plan may divide."""
        return self.ram if self.ledger is None else self.ledger.account().tiers[Tier.RAM].free


@dataclass(frozen=True, slots=True)
class Apportioned:
    """A plan in force.

    Attributes:
        ledger: the account of it; what comes and goes is leased by `residency`.
        residency: None where everything stays in memory.
        leases: what stays as long as the model is in memory.
        is_shared: other models have the same ledger.
    """

    plan: Plan
    ledger: Ledger
    residency: Residency | None
    leases: list[Lease]
    is_shared: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that all of it was planned to take."""
        return sum(self.plan.nbytes.values())

    def keep_reserve(self) -> None:
        """Lease what is kept free, once loading needs it no more for its buffers."""
        self.pay(Kind.RESERVE, self.plan.nbytes.get(Kind.RESERVE, 0))

    def pay(self, kind: Kind, nbytes: int) -> None:
        """Lease more, for as long as the model is in memory.

        Raises:
            DoesNotFit: there is no room for it.
        """
        self.leases.append(self.ledger.reserve(Claim(kind, nbytes)))

    def close(self) -> None:
        """Give back what comes and goes."""
        if self.residency is not None:
            self.residency.close()

    def release(self) -> None:
        """Give back the rest, once the model's memory has gone. Releasing twice is allowed."""
        if self.residency is not None:
            self.residency.release()
        while self.leases:
            self.leases.pop().release()


def budget_of(
    ram: int | str | None,
    plan: Plan | str | Path | None,
    *,
    ctx: int | None = None,
    kv: str | None = None,
    policies: PolicyNames | None = None,
    prefill: PrefillOrder = "layer_major",
    concurrency: int = 1,
    beside: int = 0,
    beside_per_token: int = 0,
    ledger: Ledger | None = None,
) -> Budget | None:
    """The budget that is meant; None where neither a size nor a plan nor an account is given.

    Raises:
        UsageError: both are given, or the size is none.
        NotFound, BadFile: the plan's file cannot be read.
    """
    if plan is not None:
        if ram is not None:
            raise UsageError("a plan and a budget exclude each other", "the plan states its own budget")
        known = plan if isinstance(plan, Plan) else read_plan(Path(plan))
        return Budget(known.ram, plan=known, beside=beside, beside_per_token=beside_per_token)
    if ledger is not None:
        ram = ledger.account().tiers[Tier.RAM].limit
    if ram is None:
        return None
    words = kv or DEFAULT
    return Budget(
        ram_bytes(ram),
        ctx,
        words,
        policies or PolicyNames(),
        prefill,
        beside=beside,
        beside_per_token=beside_per_token,
        concurrency=concurrency,
        ledger=ledger,
    )


def ram_bytes(ram: int | str) -> int:
    """A budget as a number, or as people write it: `4GiB`, `50%`, `auto`."""
    return ram if isinstance(ram, int) else parse_budget(ram, memory_limits())


def refuse_too_small(
    checkpoint: Checkpoint, config: ModelConfig, units: ModelUnits, budget: Budget, name: str
) -> None:
    """Refuse a budget that cannot do, by what headers tell, before the tokenizer is made.

    Raises:
        DoesNotFit: the error names the smallest that would do.
    """
    if budget.plan is None:
        runtime = max(rss_bytes(), estimated_runtime(config, checkpoint.metadata))
        if budget.ledger is not None:
            runtime = own_runtime(checkpoint, config)
        runtime += beside_nbytes(budget, config)
        planned(checkpoint, config, units, budget, runtime, 1, name)


def own_runtime(checkpoint: Checkpoint, config: ModelConfig) -> int:
    """Bytes that a model adds to a process that has others: headers and tokenizer."""
    return estimated_runtime(config, checkpoint.metadata) - BASE_NBYTES


def apportion(
    checkpoint: Checkpoint,
    config: ModelConfig,
    units: ModelUnits,
    budget: Budget,
    threads: int,
    name: str = "",
) -> Apportioned:
    """Divide a budget for a checkpoint and lease what it is divided into, before weights are read.

    Raises:
        DoesNotFit: the budget is too small; the error names the smallest that would do.
        UsageError: a plan that was given is for another model.
    """
    if budget.ledger is not None:
        runtime, reserve = own_runtime(checkpoint, config), RESERVE_NBYTES
    else:
        runtime = rss_bytes()
        reserve = reserve_beside(runtime - estimated_runtime(config, checkpoint.metadata))
    runtime += beside_nbytes(budget, config)
    plan = planned(checkpoint, config, units, budget, runtime, threads, name, reserve)
    if budget.tells_routes:
        plan = with_routes_told(plan, units)
    num_experts = [layer.num_experts for layer in units.layers]
    ledger, is_shared = budget.ledger or Ledger({Tier.RAM: plan.ram}), budget.ledger is not None
    kept = ledger.reserve(*kept_claims(units, plan, runtime))
    if plan.is_resident(num_experts):
        return Apportioned(plan, ledger, None, [kept], is_shared)
    try:
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
    except BaseException:
        kept.release()
        raise
    return Apportioned(plan, ledger, residency, [kept], is_shared)


def beside_nbytes(budget: Budget, config: ModelConfig) -> int:
    """What the caller takes beside the model."""
    return budget.beside + budget.beside_per_token * config.vocab_size


def with_routes_told(plan: Plan, units: ModelUnits) -> Plan:
    """The plan with slots for fewer than all where a layer's experts would stay; they take no more room.

    Raises:
        Unsupported: a layer's experts cannot be read as they lie.
    """
    for layer in units.layers:
        if layer.num_experts and not layer.experts:
            raise Unsupported(
                f"the routes of layer {layer.layer} cannot be told under a budget",
                units.why_not[0] if units.why_not else "its experts cannot be read as they lie",
                "leave the budget out, or pack the model first",
            )
    most = [
        min(layer.num_experts - 1, layer.num_experts * layer.expert_nbytes // layer.slot_nbytes)
        if layer.num_experts
        else 0
        for layer in units.layers
    ]
    return replace(plan, expert_slots=tuple(map(min, plan.expert_slots, most)))


def reserve_beside(more: int) -> int:
    """What is kept free where the process takes `more` bytes than headers told: the reserve pays for them, so
    that a budget that a refusal named does.
    """
    return max(LEAST_RESERVE_NBYTES, RESERVE_NBYTES - max(0, more))


def planned(
    checkpoint: Checkpoint,
    config: ModelConfig,
    units: ModelUnits,
    budget: Budget,
    runtime: int,
    threads: int,
    name: str,
    reserve: int = RESERVE_NBYTES,
) -> Plan:
    """The plan that was given, adopted, or one made for the budget."""
    profile = profile_for(checkpoint.files[0])
    if budget.plan is not None:
        return adopt_plan(budget.plan, config, units, runtime_nbytes=runtime, profile=profile)
    return make_plan(
        config,
        units,
        budget.available,
        runtime_nbytes=runtime,
        threads=threads,
        model=name,
        ctx=budget.ctx,
        kv=budget.kv,
        concurrency=budget.concurrency,
        profile=profile,
        policies=budget.policies,
        prefill=budget.prefill,
        reserve_nbytes=reserve,
    )


def kept_claims(units: ModelUnits, plan: Plan, runtime: int) -> tuple[Claim, ...]:
    """What stays leased as long as the model is loaded; slots and buffers lease their own."""
    experts = sum(
        layer.num_experts * layer.expert_nbytes
        for layer, slots in zip(units.layers, plan.expert_slots, strict=True)
        if slots == layer.num_experts
    )
    kinds = (Kind.DENSE_WEIGHTS, Kind.KV, Kind.WORKSPACE)
    return (
        Claim(Kind.RUNTIME, runtime),
        Claim(Kind.EXPERT_SLOTS, experts),
        *(Claim(kind, plan.nbytes.get(kind, 0)) for kind in kinds),
    )


def profile_for(file: Path) -> Profile | None:
    """The saved profile of the device that a file lies on; None where there is none that can be used."""
    try:
        return load_profile(file_system(file).device)
    except ApportionError:
        return None
