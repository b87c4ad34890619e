"""Loading a model for a verb, with its bar, and what is worth saying about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apportion.cli._options import BudgetOptions, EngineOptions
from apportion.cli._output import note

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.assembly import Serving
    from apportion.engine.budget import Budget
    from apportion.engine.loading import LoadedModel
    from apportion.engine.stream import Progress
    from apportion.kernels import Ops
    from apportion.plan import Plan


def load_llm(
    model: str,
    engine: EngineOptions,
    budget: BudgetOptions,
    ctx: int | None,
    on_progress: Progress,
    serving: Serving | None = None,
) -> LLM:
    """The model as an LLM; what loading found is said on stderr."""
    from apportion.core.settings import THREADS, get
    from apportion.engine import LLM
    from apportion.kernels import NativeOps

    ops = NativeOps(threads=engine.threads or get(THREADS), exact=engine.exact)
    terms = budget.budget(ctx, engine.kv, serving)
    loaded = load_alone(model, ops, engine.offline, on_progress, terms)
    return LLM.from_loaded(loaded, ctx=ctx, kv=engine.kv, serving=serving, on_progress=on_progress)


def load_alone(
    model: str, ops: Ops, offline: bool, on_progress: Progress, budget: Budget | None = None
) -> LoadedModel:
    """The model without the facade, for verbs that judge or time it."""
    from apportion.engine.loading import load

    loaded = load(model, ops, budget=budget, offline=offline, on_progress=on_progress)
    say_notes(loaded)
    return loaded


def say_notes(loaded: LoadedModel) -> None:
    for text in loaded.model.notes:
        note(f"note: {text}")
    if loaded.apportioned is not None:
        note(plan_line(loaded.apportioned.plan))
        if loaded.apportioned.residency is not None:
            for text in loaded.apportioned.residency.reader.notes:
                note(f"note: {text}")


def plan_line(plan: Plan) -> str:
    """How a budget is divided, and what to expect, on one line."""
    from apportion.core.units import format_bytes

    shares = ", ".join(f"{kind} {format_bytes(nbytes)}" for kind, nbytes in plan.nbytes.items() if nbytes)
    speed = plan.forecast.decode_tok_s
    resident = (
        "all of the model" if plan.resident_fraction >= 1 else f"{100 * plan.resident_fraction:.0f}% of it"
    )
    return (
        f"{format_bytes(plan.ram)}: {shares}; {resident} in memory, context {plan.ctx}; "
        f"expect {speed.value:.1f} tok/s ({speed.low:.1f} to {speed.high:.1f})"
    )
