"""The body of an OpenAI request as what our engine is asked: prompts, sampling, how many answers.

Every field is checked; one that is not known is an error, so that a misspelt one is not silently ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from apportion.core.errors import Unsupported, UsageError, unknown
from apportion.engine.params import SamplingParams
from apportion.engine.prompts import Message, Prompt, is_one_prompt

Endpoint: TypeAlias = Literal["/v1/chat/completions", "/v1/completions"]
MAX_CHOICES = 128
MAX_PROMPTS = 2048
COMPLETION_TOKENS = 16  # of a plain completion whose body does not say

# Sampling fields that are ours under the same name: OpenAI's own, and those that other servers have added.
SAME = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "top_k",
    "min_p",
    "typical_p",
    "repetition_penalty",
    "penalty_window",
    "ignore_eos",
    "regex",
    "grammar",
)
SHARED = frozenset({"model", "max_tokens", "stop", "n", "logprobs", "logit_bias", "response_format", *SAME})
# What says nothing about the answer.
WITHOUT_EFFECT = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "stream_options",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
    }
)
# What is known, and can be had in the given form alone.
ONLY: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "echo": (False,),
    "best_of": (1,),
    "suffix": ("",),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants.

    Attributes:
        chat: the messages; None where `prompts` are continued.
        num_choices: answers to each prompt, whose seeds follow each other where one is given.
        model: who should answer; None for whoever does by default.
        stream: the answer is wanted as it comes.
        include_usage: a stream ends with counts of tokens; include_timings: with where the time went.
        cache_salt: keys and values are shared with requests of the same salt alone.
    """

    endpoint: Endpoint
    chat: Sequence[Message] | None
    prompts: Sequence[Prompt]
    params: SamplingParams
    num_choices: int = 1
    model: str | None = None
    stream: bool = False
    include_usage: bool = False
    include_timings: bool = False
    priority: int = 0
    cache_salt: str = ""


def read_served(url: str, body: Mapping[str, Any]) -> Ask:
    """A body that a server got: streams, and fields that no batch has, are welcome.

    Raises what `read_ask` raises.
    """
    rest = dict(body)
    options = rest.pop("stream_options", None) or {}
    served: dict[str, Any] = {
        "model": rest.get("model"),
        "stream": bool(rest.pop("stream", None)),
        "include_usage": bool(options.get("include_usage")),
        "include_timings": bool(rest.pop("x_apportion", None)),
        "priority": rest.pop("priority", None) or 0,
        "cache_salt": rest.pop("cache_salt", None) or "",
    }
    return replace(read_ask(url, rest), **served)


def read_ask(url: str, body: object) -> Ask:
    """A request's body.

    Raises:
        UsageError: there is no such endpoint or field, or a value is out of range.
        Unsupported: something that this version does not do.
        LimitExceeded: a schema, expression or grammar is too long.
    """
    if url not in ENDPOINTS:
        raise unknown("endpoint", str(url)[:64], ENDPOINTS, UsageError)
    if not isinstance(body, Mapping):
        raise UsageError("the body of a request is an object", found=type(body).__name__)
    return ENDPOINTS[url](body)


def chat_ask(body: Mapping[str, Any]) -> Ask:
    known = check_fields(body, {"messages", "max_completion_tokens", "top_logprobs"})
    messages = known.get("messages")
    if not isinstance(messages, list) or not messages:
        raise UsageError("messages is a list of at least one message")
    most = known.get("max_completion_tokens", known.get("max_tokens"))
    shown = known.get("logprobs", False)
    if not isinstance(shown, bool):
        raise UsageError("logprobs is true or false", value=repr(shown)[:64])
    logprobs = known.get("top_logprobs", 0) if shown else None
    return Ask("/v1/chat/completions", messages, (), sampling(known, most, logprobs), choices(known))


def text_ask(body: Mapping[str, Any]) -> Ask:
    known = check_fields(body, {"prompt"})
    params = sampling(known, known.get("max_tokens", COMPLETION_TOKENS), known.get("logprobs"))
    return Ask("/v1/completions", None, prompts(known.get("prompt")), params, choices(known))


ENDPOINTS: dict[str, Callable[[Mapping[str, Any]], Ask]] = {
    "/v1/chat/completions": chat_ask,
    "/v1/completions": text_ask,
}


def check_fields(body: Mapping[str, Any], own: set[str]) -> dict[str, Any]:
    """The fields that matter; null is the same as absent."""
    known = SHARED | own
    for name, value in body.items():
        if name in ONLY:
            if value is not None and not any(same(value, only) for only in ONLY[name]):
                raise Unsupported(
                    f"{name} is not supported", hint=f"leave {name} out", value=repr(value)[:64]
                )
        elif name not in known and name not in WITHOUT_EFFECT:
            raise unknown("field", name[:64], known | ONLY.keys(), UsageError)
    return {name: value for name, value in body.items() if name in known and value is not None}


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


def sampling(known: Mapping[str, Any], max_tokens: Any, logprobs: Any) -> SamplingParams:
    """What of a body is about choosing tokens."""
    form = response_format(known.get("response_format"))
    stop = known.get("stop", ())
    if not isinstance(stop, str | Sequence):
        raise UsageError("stop is a text or a list of texts", value=repr(stop)[:64])
    return SamplingParams(
        max_tokens=max_tokens,
        stop=stop,
        logprobs=logprobs,
        logit_bias=biases(known.get("logit_bias")),
        **form,
        **{name: known[name] for name in SAME if name in known},
    )


def biases(given: Any) -> dict[int, float] | None:
    """`{"50256": -100}`; JSON writes ids as texts."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise UsageError("logit_bias is an object", value=repr(given)[:64])
    try:
        return {int(token): float(bias) for token, bias in given.items()}
    except (TypeError, ValueError):
        raise UsageError("logit_bias maps token ids to numbers", value=repr(given)[:64]) from None


def response_format(given: Any) -> dict[str, Any]:
    """The form of the answer, as fields of `SamplingParams`."""
    if given is None:
        return {}
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"json_object": True}
    wrapped = given.get("json_schema") if kind == "json_schema" else None
    if not isinstance(wrapped, Mapping) or "schema" not in wrapped:
        raise UsageError(
            "response_format is none that is known",
            hint='{"type": "text"}, {"type": "json_object"} or '
            '{"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}',
        )
    return {"json_schema": wrapped["schema"]}


def prompts(given: Any) -> Sequence[Prompt]:
    """One prompt or several, each text or token ids."""
    if given is None or (isinstance(given, list) and not given):
        raise UsageError("there is no prompt")
    if not isinstance(given, str | list):
        raise UsageError("prompt is a text, token ids, or a list of such", value=repr(given)[:64])
    several: Sequence[Any] = [given] if is_one_prompt(given) else given
    if len(several) > MAX_PROMPTS:
        raise UsageError("there are too many prompts", prompts=len(several), limit=MAX_PROMPTS)
    for prompt in several:
        if not isinstance(prompt, str) and not (isinstance(prompt, list) and is_one_prompt(prompt)):
            raise UsageError("a prompt is text or token ids", value=repr(prompt)[:64])
    return several


def choices(known: Mapping[str, Any]) -> int:
    count = known.get("n", 1)
    if type(count) is not int or not 1 <= count <= MAX_CHOICES:
        raise UsageError("n is out of range", f"it must be 1 to {MAX_CHOICES}", value=repr(count)[:64])
    return count
