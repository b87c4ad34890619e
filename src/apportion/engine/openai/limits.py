"""How much one request may ask for; a server takes these from its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apportion.core.errors import ApportionError, LimitExceeded
from apportion.engine.grammar.spec import MAX_REGEX_NBYTES, MAX_SCHEMA_DEPTH, MAX_SCHEMA_NBYTES, written
from apportion.engine.params import MAX_LOGPROBS
from apportion.formats.bounded_json import json_depth


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


def check_schema(schema: Any, what: str, where: str, limits: AskLimits) -> None:
    """Check a JSON schema.

    Args:
        what: how a sentence about it begins, "the schema is" for instance.
        where: the field that holds it.

    Raises:
        LimitExceeded: it is too long or too deep.
        UsageError: it is no JSON.
    """
    try:
        text = written(schema).encode("utf-8", "surrogatepass")
    except ApportionError as error:
        raise error.about(where) from None
    if len(text) > limits.schema_nbytes:
        raise LimitExceeded(f"{what} too long", nbytes=len(text), limit=limits.schema_nbytes).about(where)
    depth = json_depth(text, limits.schema_depth)
    if depth > limits.schema_depth:
        raise LimitExceeded(f"{what} nested too deep", depth=depth, limit=limits.schema_depth).about(where)
