"""The models that a server offers, as they are now."""

from __future__ import annotations

from apportion.engine import LLM
from apportion.engine.assembly import scheduler_for
from apportion.serve.meters import Meter
from apportion.serve.models import ModelInfo
from apportion.serve.schemas.status import Kv, ModelStatus
from apportion.serve.status.experts import experts_of
from apportion.serve.status.speeds import forecast_of, measured


def model_of(info: ModelInfo, llm: LLM | None, meter: Meter, now_s: float) -> ModelStatus:
    """One of them.

    Args:
        llm: None where it is not loaded.
    """
    plan = None if llm is None else llm.plan
    return ModelStatus(
        name=info.name,
        state=info.state,
        progress=1.0 if llm is not None else info.progress,
        error=info.error,
        ctx=info.ctx,
        scheduler=None if llm is None else scheduler_for(llm.loaded, llm.serving),
        kv=None if llm is None else kv_of(llm),
        plan=None if plan is None else plan.to_dict(),
        forecast=forecast_of(plan),
        measured=measured(meter, now_s),
        experts=None if llm is None else experts_of(llm),
    )


def kv_of(llm: LLM) -> Kv:
    """Memory for keys and values."""
    pool = llm.engine.space.pool
    return Kv(
        codec=llm.serving.kv,
        block_tokens=llm.engine.block_tokens,
        blocks=pool.num_blocks,
        free_blocks=pool.num_free,
        kept_blocks=pool.num_idle,
    )
