"""What of a body is about choosing tokens, as `SamplingParams`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from apportion.core.errors import ApportionError, LimitExceeded, UsageError
from apportion.engine.openai.limits import AskLimits, check_schema
from apportion.engine.params import SamplingParams

# Fields that are ours under the same name: OpenAI's own, and those that other servers have added.
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
)

FORMS = ("response_format", "regex", "grammar", "choice")


# Other servers' names of ours.
ALIASES = {"guided_regex": "regex", "guided_grammar": "grammar", "guided_choice": "choice"}


def by_our_names(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields, with those that have two names under ours.

    Raises:
        UsageError: one has a value under each of them.
    """
    for alias, name in ALIASES.items():
        if alias in known and name in known:
            raise UsageError(f"{alias} and {name} are the same", "one of them is enough").about(alias)
    return {ALIASES.get(name, name): value for name, value in known.items()}


def sampling(
    known: Mapping[str, Any], max_tokens: Any, logprobs: Any, limits: AskLimits, echo: bool = False
) -> SamplingParams:
    """The parameters of a body's fields.

    Args:
        echo: the prompt comes back, with log-probabilities where there are any.

    Raises:
        UsageError: a value is of the wrong kind or out of range.
        LimitExceeded: there is more of it than is allowed.
    """
    known = by_our_names(known)
    check_regex(known.get("regex"), limits)
    if logprobs is not None and type(logprobs) is int and logprobs > limits.top_logprobs:
        raise LimitExceeded(
            "logprobs asks for too many alternatives", asked=str(logprobs)[:32], limit=limits.top_logprobs
        ).about("top_logprobs" if "top_logprobs" in known else "logprobs")
    if not isinstance(known.get("ignore_eos", False), bool):
        raise UsageError("ignore_eos is true or false").about("ignore_eos")
    given = {
        "max_tokens": max_tokens,
        "stop": stop_strings(known.get("stop", ()), limits),
        "logprobs": logprobs,
        "prompt_logprobs": (0 if logprobs is None and max_tokens == 0 else logprobs) if echo else None,
        "logit_bias": biases(known.get("logit_bias"), limits),
        **form_of(known, limits),
        **{name: known[name] for name in SAME if name in known},
    }
    try:
        return SamplingParams(**given)
    except ApportionError as error:  # its text begins with the field, but where it is about the form
        name = error.what.split(" ", 1)[0]
        forms = [form for form in FORMS if form in known]
        if name in given or len(forms) == 1:
            error.about(name if name in given else forms[0])
        raise


def check_regex(regex: Any, limits: AskLimits) -> None:
    if isinstance(regex, str) and len(regex.encode("utf-8", "surrogatepass")) > limits.regex_nbytes:
        nbytes = len(regex.encode("utf-8", "surrogatepass"))
        raise LimitExceeded(
            "the regular expression is too long", nbytes=nbytes, limit=limits.regex_nbytes
        ).about("regex")


def stop_strings(stop: Any, limits: AskLimits) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else stop
    if not isinstance(strings, list | tuple) or not all(isinstance(one, str) and one for one in strings):
        raise UsageError(
            "stop is a text or a list of texts, none of them empty", value=repr(stop)[:64]
        ).about("stop")
    if len(strings) > limits.num_stop:
        raise LimitExceeded(
            "there are too many stop strings", given=len(strings), limit=limits.num_stop
        ).about("stop")
    longest = max((len(one.encode("utf-8", "surrogatepass")) for one in strings), default=0)
    if longest > limits.stop_nbytes:
        raise LimitExceeded("a stop string is too long", nbytes=longest, limit=limits.stop_nbytes).about(
            "stop"
        )
    return tuple(strings)


def biases(given: Any, limits: AskLimits) -> dict[int, float] | None:
    """`{"50256": -100}`; JSON writes ids as texts."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise UsageError("logit_bias is an object", value=repr(given)[:64]).about("logit_bias")
    if len(given) > limits.logit_bias:
        raise LimitExceeded("logit_bias is too long", tokens=len(given), limit=limits.logit_bias).about(
            "logit_bias"
        )
    try:
        return {int(token): float(bias) for token, bias in given.items()}
    except (TypeError, ValueError, OverflowError):
        raise UsageError("logit_bias maps token ids to numbers", value=repr(given)[:64]).about(
            "logit_bias"
        ) from None


def form_of(known: Mapping[str, Any], limits: AskLimits) -> dict[str, Any]:
    """The form of the answer, as fields of `SamplingParams`."""
    form = response_format(known.get("response_format"), limits)
    if "guided_json" in known:
        if "json_schema" in form:
            raise UsageError(
                "guided_json and response_format exclude each other", "an answer has one form"
            ).about("guided_json")
        form["json_schema"] = known["guided_json"]
    if "grammar" in known:
        form["grammar"] = known["grammar"]
    if "choice" in known:
        if "grammar" in known:
            raise UsageError("choice and grammar exclude each other", "an answer has one form").about(
                "choice"
            )
        form["grammar"] = one_of(known["choice"])
    return form


def one_of(texts: Any) -> str:
    """The grammar, in Lark, of an answer that is one of the texts."""
    if not isinstance(texts, list) or not texts or not all(isinstance(one, str) and one for one in texts):
        raise UsageError("choice is a list of texts, none of them empty", value=repr(texts)[:64]).about(
            "choice"
        )
    return "start: " + " | ".join(json.dumps(one, ensure_ascii=False) for one in texts)


def response_format(given: Any, limits: AskLimits) -> dict[str, Any]:
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
        ).about("response_format")
    check_schema(wrapped["schema"], "the schema is", "response_format", limits)
    return {"json_schema": wrapped["schema"]}
