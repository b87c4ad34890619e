"""Plans from files, made to hold here: what a person chose stays, what follows from it is reckoned anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from apportion.core.claim import Kind
from apportion.core.errors import DoesNotFit, UsageError
from apportion.core.units import format_bytes
from apportion.hardware.profile import Profile
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits
from apportion.plan.plan import Plan
from apportion.plan.planner import Planner


def planner_of(plan: Plan, planner: Planner) -> Planner:
    """A planner that has the plan's wishes in place of its own: context, KV, threads, prompt and policies."""
    return replace(
        planner,
        threads=plan.threads,
        model=plan.model,
        ctx=plan.ctx,
        kv=plan.kv,
        concurrency=plan.concurrency,
        prompt_tokens=plan.forecast.prompt_tokens,
        policies=plan.policies,
        tokens_per_pass=plan.tokens_per_pass,
    )


def adopted(plan: Plan, planner: Planner) -> Plan:
    """The plan with bytes, forecast and advice as its choices make them here.

    Where the process takes more than was reckoned with, the reserve pays.

    Args:
        planner: knows model, machine and process; the plan's own wishes come before the planner's.

    Raises:
        UsageError: the choices cannot be carried out with this model.
        NotFound: there is no policy of a name.
        DoesNotFit: they take more than the plan's budget.
    """
    units = planner.units
    plan.require_suits([layer.num_experts for layer in units.layers])
    plan.policies.require_known()
    _require_streamable(plan, units)
    planner = planner_of(plan, planner)
    found = planner.arranger.chosen(plan)
    needed = found.total_nbytes - found.nbytes[Kind.RESERVE]
    if needed > plan.ram:
        raise _too_large(plan, found.nbytes, needed)
    reserve = min(found.nbytes[Kind.RESERVE], plan.ram - needed)
    found = replace(found, nbytes={**found.nbytes, Kind.RESERVE: reserve})
    told = planner.told(found, plan.ram)
    return replace(told, max_running=plan.max_running or told.max_running)


def adopt_plan(
    plan: Plan, config: ModelConfig, units: ModelUnits, *, runtime_nbytes: int, profile: Profile | None = None
) -> Plan:
    """`adopted` without advice, for a model that is about to run; the arguments are those of `Planner`."""
    planner = Planner(config, units, runtime_nbytes, plan.threads, profile=profile, advises=False)
    return adopted(plan, planner)


def _require_streamable(plan: Plan, units: ModelUnits) -> None:
    why = units.why_not[0] if units.why_not else "it is stored in another order than it is used in"
    hint = "let it stay in memory, or pack the model first"
    for layer in units.layers:
        if plan.expert_slots[layer.layer] < layer.num_experts and not layer.experts:
            raise UsageError(f"the experts of layer {layer.layer} cannot be read as they lie", why, hint)
        if layer.layer in plan.streamed_layers and layer.dense is None:
            raise UsageError(f"layer {layer.layer} cannot stream", why, hint)
    if plan.embedding == "rows" and not units.head_nbytes:
        raise UsageError(
            "the embedding cannot be read by row", "it is the head, too", 'write embedding = "resident"'
        )
    if plan.embedding == "rows" and units.embedding is None:
        raise UsageError("the embedding cannot be read by row", why, hint)


def _too_large(plan: Plan, nbytes: Mapping[Kind, int], needed: int) -> DoesNotFit:
    largest = max((kind for kind in nbytes if kind != Kind.RUNTIME), key=lambda kind: nbytes[kind])
    return DoesNotFit(
        f"the plan does not fit into its own {format_bytes(plan.ram)}",
        f"its choices take {format_bytes(needed)}, most of it for {largest}",
        "give it a larger ram, fewer slots or a smaller ctx, or make a new plan",
        ram=plan.ram,
        needed=needed,
    )
