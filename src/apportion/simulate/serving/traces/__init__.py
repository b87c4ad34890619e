"""Traces of requests: when each came, how long it was, what it shared with others. One reader per format.

What was asked is in none of them, only how much: tokens are made up, the same for the same prefix.
"""

from apportion.simulate.serving.traces.reading import FORMATS, read_trace
from apportion.simulate.serving.traces.trace import TracedRequest, prompt_ids, scaled

__all__ = ["FORMATS", "TracedRequest", "prompt_ids", "read_trace", "scaled"]
