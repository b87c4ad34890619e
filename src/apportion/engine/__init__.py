"""The engine: requests in, tokens out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion.engine.completion import Completion, Delta, Logprob, Timings, TokenLogprobs
    from apportion.engine.llm import LLM
    from apportion.engine.params import SamplingParams
    from apportion.engine.stream import Stream

__all__ = ["LLM", "Completion", "Delta", "Logprob", "SamplingParams", "Stream", "Timings", "TokenLogprobs"]
HOMES = {"LLM": "llm", "SamplingParams": "params", "Stream": "stream"}


def __getattr__(name: str) -> Any:
    # Lazy, so that a part of the engine can be used without all the others.
    if name in __all__:
        return getattr(import_module(f"{__name__}.{HOMES.get(name, 'completion')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
