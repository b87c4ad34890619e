"""The engine: requests in, tokens out."""

from apportion.engine.completion import Completion, Delta, Logprob, Timings, TokenLogprobs
from apportion.engine.llm import LLM
from apportion.engine.params import SamplingParams
from apportion.engine.stream import Stream

__all__ = ["LLM", "Completion", "Delta", "Logprob", "SamplingParams", "Stream", "Timings", "TokenLogprobs"]
