"""How much one request may ask for; a server takes these from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.engine.grammar.spec import MAX_REGEX_NBYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_NBYTES
from apportion.engine.params import MAX_LOGPROBS


@dataclass(frozen=True, slots=True)
class AskLimits:
    """The most of each thing in one body.

    Attributes:
        num_choices: answers to each prompt.
        num_stop, stop_nbytes: stop strings, and bytes of each.
        schema_nbytes, schema_depth: of the schema of an answer, or of a tool's parameters.
        text_nbytes: of names, salts and the like.
    """

    num_messages: int = 2048
    num_prompts: int = 2048
    num_choices: int = 128
    num_stop: int = 16
    stop_nbytes: int = 256
    num_tools: int = 128
    schema_nbytes: int = MAX_SCHEMA_NBYTES
    schema_depth: int = MAX_SCHEMA_DEPTH
    regex_nbytes: int = MAX_REGEX_NBYTES
    top_logprobs: int = MAX_LOGPROBS
    logit_bias: int = 1024
    text_nbytes: int = 256


FREE = AskLimits()
