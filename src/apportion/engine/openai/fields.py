"""Every field of a request that is known: what it means, on which routes, and in which forms it can be had.

The table is what requests are checked against, and what the support table of the documentation is made from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from apportion.core.errors import Unsupported, UsageError, unknown

Family: TypeAlias = Literal["chat", "text"]
BOTH: tuple[Family, ...] = ("chat", "text")
CHAT: tuple[Family, ...] = ("chat",)
TEXT: tuple[Family, ...] = ("text",)


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Attributes:
        what: what it does, for the documentation.
        on: the families of endpoints that have it.
        only: the only values it may have; None where it is read by its own rules.
        offline: the only values it may have in an offline batch; None where those are the same.
        has_effect: whether it changes anything; the others are accepted and told of as such.
    """

    what: str
    on: tuple[Family, ...] = BOTH
    only: tuple[Any, ...] | None = None
    offline: tuple[Any, ...] | None = None
    has_effect: bool = True


FIELDS: dict[str, Field] = {
    "model": Field("the name of a model that is served; none is the first one"),
    "messages": Field("texts or lists of text parts; images are refused", CHAT),
    "prompt": Field("a text, token ids, or a list of such", TEXT),
    "stream": Field("server-sent events, ended by `[DONE]`", offline=(False,)),
    "stream_options": Field("`include_usage` adds a last chunk with the usage"),
    "max_tokens": Field("the most output tokens; a plain completion has 16 unless told"),
    "max_completion_tokens": Field("the same, under its newer name", CHAT),
    "temperature": Field("0 is greedy"),
    "top_p": Field("nucleus sampling"),
    "top_k": Field("keep the k likeliest tokens; 0 keeps all"),
    "min_p": Field("keep tokens at least p times as likely as the likeliest"),
    "typical_p": Field("locally typical sampling"),
    "seed": Field("makes the draws repeatable"),
    "stop": Field("a text or a list of texts that end the answer"),
    "frequency_penalty": Field("taken per occurrence in the answer so far"),
    "presence_penalty": Field("taken once from tokens in the answer so far"),
    "repetition_penalty": Field("divides logits of tokens in the prompt or answer"),
    "penalty_window": Field("how many of the last tokens the penalties look at"),
    "logit_bias": Field("token id to a number added to its logit"),
    "ignore_eos": Field("answer until `max_tokens`"),
    "logprobs": Field("chat: true or false; completions: how many alternatives"),
    "top_logprobs": Field("how many alternatives", CHAT),
    "echo": Field(
        "the prompt comes back before the answer, with its log-probabilities", TEXT, None, (False,)
    ),
    "n": Field("answers to each prompt; the prompt is read once"),
    "response_format": Field("`text`, `json_object` or `json_schema`"),
    "regex": Field("the answer matches this regular expression"),
    "grammar": Field("the answer follows this grammar, Lark or GBNF"),
    "choice": Field("the answer is one of these texts"),
    "guided_json": Field("the answer is JSON of this schema; as vLLM writes it"),
    "guided_regex": Field("`regex`, as vLLM writes it"),
    "guided_grammar": Field("`grammar`, as vLLM writes it"),
    "guided_choice": Field("`choice`, as vLLM writes it"),
    "tools": Field("functions that the model may call", CHAT),
    "tool_choice": Field("`auto`, `none`, `required`, a function, or `allowed_tools`", CHAT),
    "parallel_tool_calls": Field("whether one answer may hold several calls", CHAT),
    "reasoning_effort": Field("for templates that know it; `none` switches thinking off", CHAT),
    "chat_template_kwargs": Field("what the template reads besides, from a list of known names", CHAT),
    "cache_salt": Field("prefixes are shared with requests of the same salt alone"),
    "priority": Field("-100 to 100; larger is more urgent"),
    "x_apportion": Field("true adds a block with the answer's timings and warnings", BOTH, None, (False,)),
    "best_of": Field("refused unless 1", TEXT, (1,)),
    "suffix": Field("refused unless empty", TEXT, ("",)),
    "functions": Field("refused; use `tools`", CHAT, ([],)),
    "function_call": Field("refused; use `tool_choice`", CHAT, ("none", "auto")),
    "modalities": Field("`text` alone", CHAT, (["text"],)),
    "audio": Field("refused", CHAT, ()),
    "web_search_options": Field("refused", CHAT, ()),
    "user": Field("accepted", has_effect=False),
    "metadata": Field("accepted", has_effect=False),
    "store": Field("accepted; nothing is stored", has_effect=False),
    "service_tier": Field("accepted", has_effect=False),
    "safety_identifier": Field("accepted", has_effect=False),
    "prompt_cache_key": Field("accepted; prefixes are found by their tokens", has_effect=False),
    "prompt_cache_retention": Field("accepted", has_effect=False),
    "prediction": Field("accepted", CHAT, has_effect=False),
    "verbosity": Field("accepted", CHAT, has_effect=False),
}


def check_fields(body: Mapping[str, Any], family: Family, lenient: bool) -> tuple[dict[str, Any], list[str]]:
    """The fields that matter, and warnings; null is the same as absent.

    Args:
        lenient: a server's rule: a field that nobody knows is told of; else it is an error, so that a
            misspelt one is not silently ignored, and only what an offline batch can do is accepted.

    Raises:
        UsageError: an unknown field.
        Unsupported: a field in a form that cannot be had.
    """
    known: dict[str, Any] = {}
    warnings = []
    for name, value in body.items():
        field = FIELDS.get(name)
        if field is None or family not in field.on:
            if not lenient and field is not None:
                raise Unsupported(f"this endpoint has no {name}", hint=f"leave {name} out").about(name)
            if not lenient:
                raise unknown("field", name[:64], names_of(family), UsageError).about(name[:64])
            if value is not None:
                warnings.append(f"unknown field {shown_name(name)} was ignored")
        elif value is not None:
            check_form(name, field, value, lenient)
            if field.has_effect:
                known[name] = value
    return known, warnings


def names_of(family: Family) -> list[str]:
    return [name for name, field in FIELDS.items() if family in field.on]


def check_form(name: str, field: Field, value: Any, lenient: bool) -> None:
    forms = field.only if lenient or field.offline is None else field.offline
    if forms is not None and not any(same(value, form) for form in forms):
        hint = f"leave {name} out"
        raise Unsupported(f"{name} is not supported", hint=hint, value=repr(value)[:64]).about(name)


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def shown_name(name: str) -> str:
    """A name that a stranger chose, fit for a header."""
    return repr(name[:40].encode("ascii", "replace").decode())
