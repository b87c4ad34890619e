"""Loading a model for a verb, with its bar, and what is worth saying about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apportion.cli._options import EngineOptions
from apportion.cli._output import note

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.loading import LoadedModel
    from apportion.engine.stream import Progress
    from apportion.kernels import Ops


def load_llm(model: str, engine: EngineOptions, ctx: int | None, on_progress: Progress) -> LLM:
    """The model as an LLM; what loading found is said on stderr."""
    from apportion.engine import LLM

    llm = LLM(
        model,
        ctx=ctx,
        threads=engine.threads,
        kv=engine.kv,
        exact=engine.exact,
        offline=engine.offline,
        on_progress=on_progress,
    )
    say_notes(llm.loaded)
    return llm


def load_alone(model: str, ops: Ops, offline: bool, on_progress: Progress) -> LoadedModel:
    """The model without the facade, for verbs that judge or time it."""
    from apportion.engine.loading import load

    loaded = load(model, ops, offline=offline, on_progress=on_progress)
    say_notes(loaded)
    return loaded


def say_notes(loaded: LoadedModel) -> None:
    for text in loaded.model.notes:
        note(f"note: {text}")
