"""The body of an OpenAI request as what our engine is asked: prompts, sampling, how many answers.

Every field is checked. One that is not known is an error in an offline batch, so that a misspelt one is not
silently ignored; a server, whose clients send what other servers know, goes on and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from apportion.core.errors import LimitExceeded, UsageError, unknown
from apportion.engine.openai.fields import check_fields, shown_name
from apportion.engine.openai.limits import FREE, AskLimits
from apportion.engine.openai.messages import read_messages
from apportion.engine.openai.sampling import sampling
from apportion.engine.openai.tools import NO_TOOLS, Tools, read_tools
from apportion.engine.params import SamplingParams
from apportion.engine.prompts import Message, Prompt, is_one_prompt
from apportion.text.chat_template import VARIABLES

Endpoint: TypeAlias = Literal["/v1/chat/completions", "/v1/completions"]
COMPLETION_TOKENS = 16  # of a plain completion whose body does not say
MOST_URGENT = 100
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request wants.

    Attributes:
        chat: the messages; None where `prompts` are continued.
        num_choices: answers to each prompt, whose seeds follow each other where one is given.
        model: who should answer; None for whoever does by default.
        stream: the answer is wanted as it comes.
        include_usage: a stream ends with counts of tokens; include_timings: with where the time went.
        tools: that the model may call.
        variables: what the chat template reads besides.
        echo: the prompt comes back before the answer.
        cache_salt: keys and values are shared with requests of the same salt alone.
        priority: larger is more urgent.
        warnings: what of the body was ignored, one line of ASCII each.
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
    tools: Tools = NO_TOOLS
    variables: Mapping[str, Any] = field(default_factory=dict)
    echo: bool = False
    cache_salt: str = ""
    priority: int = 0
    warnings: tuple[str, ...] = ()


def read_ask(url: str, body: object) -> Ask:
    """A request's body, where the answer is written to a file: what is not known is an error, and so is what
    such an answer cannot be.

    Raises:
        UsageError: there is no such endpoint or field, or a value is out of range. `param` is the field.
        Unsupported: something that this version does not do.
        LimitExceeded: there is more of something than is allowed.
    """
    return ask_of(url, body, False, FREE)


def read_served(url: str, body: object, limits: AskLimits) -> Ask:
    """A body that a server got: streams, and fields that no batch has, are welcome; what nobody knows is
    ignored with a warning.

    Raises what `read_ask` raises.
    """
    return ask_of(url, body, True, limits)


def ask_of(url: str, body: object, lenient: bool, limits: AskLimits) -> Ask:
    if url not in ENDPOINTS:
        raise unknown("endpoint", str(url)[:64], ENDPOINTS, UsageError)
    if not isinstance(body, Mapping):
        raise UsageError("the body of a request is an object", found=type(body).__name__)
    return ENDPOINTS[url](body, lenient, limits)


def chat_ask(body: Mapping[str, Any], lenient: bool, limits: AskLimits) -> Ask:
    known, warnings = check_fields(body, "chat", lenient)
    messages, ignored = read_messages(known.get("messages"), lenient, limits)
    most = known.get("max_completion_tokens", known.get("max_tokens"))
    params = sampling(known, most, chat_logprobs(known), limits)
    tools = read_tools(known, limits)
    if tools.choice == "required" and params.has_form:
        raise UsageError(
            "tool_choice and a form of the answer exclude each other", "a call has a form of its own"
        ).about("tool_choice")
    variables = template_variables(known)
    shared = shared_terms(known, [*warnings, *ignored], limits)
    return Ask("/v1/chat/completions", messages, (), params, tools=tools, variables=variables, **shared)


def text_ask(body: Mapping[str, Any], lenient: bool, limits: AskLimits) -> Ask:
    known, warnings = check_fields(body, "text", lenient)
    echo, most = truth(known, "echo"), known.get("max_tokens", COMPLETION_TOKENS)
    params = sampling(known, most, known.get("logprobs"), limits, echo)
    given = read_prompts(known.get("prompt"), limits.num_prompts)
    shared = shared_terms(known, warnings, limits)
    return Ask("/v1/completions", None, given, params, echo=echo, **shared)


ENDPOINTS: dict[str, Callable[[Mapping[str, Any], bool, AskLimits], Ask]] = {
    "/v1/chat/completions": chat_ask,
    "/v1/completions": text_ask,
}


def shared_terms(known: Mapping[str, Any], warnings: list[str], limits: AskLimits) -> dict[str, Any]:
    """What every endpoint's body may say, as fields of `Ask`."""
    include_usage, ignored = stream_options(known)
    return {
        "num_choices": choices(known, limits),
        "model": short_text(known, "model", limits) or None,
        "stream": truth(known, "stream"),
        "include_usage": include_usage,
        "include_timings": truth(known, "x_apportion"),
        "cache_salt": short_text(known, "cache_salt", limits),
        "priority": priority(known),
        "warnings": tuple(warnings + ignored),
    }


def chat_logprobs(known: Mapping[str, Any]) -> Any:
    """How many alternatives a chat's body asks for; None for no log-probabilities."""
    if truth(known, "logprobs"):
        return known.get("top_logprobs", 0)
    if known.get("top_logprobs", 0) != 0:
        raise UsageError("top_logprobs without logprobs", hint="set logprobs to true").about("top_logprobs")
    return None


def stream_options(known: Mapping[str, Any]) -> tuple[bool, list[str]]:
    """Whether a stream ends with usage, and warnings of options that nobody knows."""
    options = known.get("stream_options", {})
    if not isinstance(options, Mapping):
        raise UsageError("stream_options is an object", value=repr(options)[:64]).about("stream_options")
    unknown_ones = [name for name in options if name not in ("include_usage", "include_obfuscation")]
    warnings = [f"unknown option {shown_name(name)} of stream_options was ignored" for name in unknown_ones]
    include_usage = options.get("include_usage")
    if include_usage is not None and not isinstance(include_usage, bool):
        raise UsageError("include_usage is true or false").about("stream_options.include_usage")
    return bool(include_usage), warnings


def template_variables(known: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template reads besides messages and tools.

    Raises:
        UsageError: a variable that no template is known to read.
    """
    given = known.get("chat_template_kwargs", {})
    if not isinstance(given, Mapping):
        raise UsageError("chat_template_kwargs is an object").about("chat_template_kwargs")
    for name in given:
        if name not in VARIABLES:
            raise unknown("variable", str(name)[:64], VARIABLES, UsageError).about("chat_template_kwargs")
    return {**effort(known.get("reasoning_effort")), **given}


def effort(given: Any) -> dict[str, Any]:
    """`reasoning_effort` as variables: templates have a switch, or an amount."""
    if given is None:
        return {}
    if given not in EFFORTS:
        raise UsageError(
            "reasoning_effort is none that is known", hint=", ".join(EFFORTS), value=repr(given)[:64]
        ).about("reasoning_effort")
    thinks = given != "none"
    switches = {"enable_thinking": thinks, "thinking": thinks}
    return {**switches, "reasoning_effort": given} if thinks else switches


def priority(known: Mapping[str, Any]) -> int:
    value = known.get("priority", 0)
    if type(value) is not int or not -MOST_URGENT <= value <= MOST_URGENT:
        raise UsageError(
            "priority is out of range",
            f"a whole number, -{MOST_URGENT} to {MOST_URGENT}",
            value=repr(value)[:64],
        ).about("priority")
    return value


def truth(known: Mapping[str, Any], name: str) -> bool:
    value = known.get(name, False)
    if not isinstance(value, bool):
        raise UsageError(f"{name} is true or false", value=repr(value)[:64]).about(name)
    return value


def short_text(known: Mapping[str, Any], name: str, limits: AskLimits) -> str:
    value = known.get(name, "")
    if not isinstance(value, str):
        raise UsageError(f"{name} is text", value=repr(value)[:64]).about(name)
    nbytes = len(value.encode("utf-8", "surrogatepass"))
    if nbytes > limits.text_nbytes:
        raise LimitExceeded(f"{name} is too long", nbytes=nbytes, limit=limits.text_nbytes).about(name)
    return value


def read_prompts(given: Any, most: int, name: str = "prompt") -> Sequence[Prompt]:
    """One prompt or several, each text or token ids.

    Args:
        most: how many there may be.
        name: of the field.

    Raises:
        UsageError: there is none, or one is neither.
        LimitExceeded: there are too many.
    """
    if given is None or (isinstance(given, list) and not given):
        raise UsageError(f"there is no {name}").about(name)
    if not isinstance(given, str | list):
        raise UsageError(f"{name} is a text, token ids, or a list of such", value=repr(given)[:64]).about(
            name
        )
    several: Sequence[Any] = [given] if is_one_prompt(given) else given
    if len(several) > most:
        raise LimitExceeded(f"{name} holds too many texts", given=len(several), limit=most).about(name)
    for place, prompt in enumerate(several):
        if not isinstance(prompt, str) and not (isinstance(prompt, list) and are_ids(prompt)):
            raise UsageError(
                f"{name} holds what is neither text nor token ids", value=repr(prompt)[:64]
            ).about(name if len(several) == 1 else f"{name}.{place}")
    return several


def are_ids(prompt: Sequence[Any]) -> bool:
    """Whether all of it could be token ids."""
    return all(type(token) is int and 0 <= token < 2**31 for token in prompt)


def choices(known: Mapping[str, Any], limits: AskLimits) -> int:
    count = known.get("n", 1)
    if type(count) is not int or not 1 <= count <= limits.num_choices:
        raise UsageError(
            "n is out of range", f"it must be 1 to {limits.num_choices}", value=repr(count)[:64]
        ).about("n")
    return count
