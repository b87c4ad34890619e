"""What a request asks of sampling: frozen, checked, and completed from what the model recommends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from apportion.core.errors import UsageError
from apportion.engine.grammar.spec import check_length, schema_text

LARGEST = 2**64 - 1
MAX_LOGPROBS = 100  # alternatives per token; each costs a place in every streamed event
MAX_PROMPT_LOGPROBS = 20  # prompts are long, and all of it is told at once


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen, and when a completion ends.

    The order is fixed: penalties and `logit_bias`, then (unless greedy) `top_k`, `typical_p`, `top_p`,
    `min_p`, then `temperature`, then one draw. Each filter sees what the one before it left, renormalised.

    Attributes:
        temperature: 0 is greedy: the largest logit, ties to the lower id. None, here and in the next three:
            what the checkpoint recommends, or else `DEFAULTS`.
        top_k: keep the k likeliest tokens; 0 keeps all.
        top_p: keep the fewest tokens whose probabilities reach p; 1 keeps all.
        min_p: keep tokens at least p times as likely as the likeliest; 0 keeps all.
        typical_p: keep the tokens nearest to the expected surprise until their probabilities reach p; 1 keeps
            all (Meister et al., arXiv:2202.00666).
        repetition_penalty: divides positive and multiplies negative logits of tokens that stand in the prompt
            or the answer; 1 is none (Keskar et al., arXiv:1909.05858).
        presence_penalty: taken once from the logits of tokens in the answer so far.
        frequency_penalty: taken once per occurrence in the answer so far.
        penalty_window: how many of the last tokens the penalties look at; None is all.
        logit_bias: token id -> number added to its logit; -inf forbids it.
        seed: makes the draws repeatable; None draws a seed, which the completion reports.
        max_tokens: the most output tokens; None is until the model ends or the context is full. 0, for the
            prompt's log-probabilities alone.
        stop: strings that end the answer; they are not part of it.
        logprobs: report each token's log-probability and this many alternatives; None reports nothing. They
            come from the model's own logits, before everything above.
        prompt_logprobs: the same for the prompt's tokens; all of it is computed, whatever is kept of it.
        ignore_eos: forbid the end-of-generation tokens, so that exactly `max_tokens` come.
        json_schema: the answer is JSON of this schema, given as an object or as text. At most one of this and
            the next three; an answer that `max_tokens` or a stop string cuts short is not whole.
        json_object: the answer is some JSON object.
        regex: the answer matches this regular expression, in the syntax of Rust's `regex` crate.
        grammar: the answer follows this grammar, in llguidance's Lark or in llama.cpp's GBNF.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalty_window: int | None = None
    logit_bias: Mapping[int, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    ignore_eos: bool = False
    json_schema: Mapping[str, Any] | bool | str | None = None
    json_object: bool = False
    regex: str | None = None
    grammar: str | None = None

    def __post_init__(self) -> None:
        check("temperature", self.temperature, 0, math.inf, below_high=True)
        check("top_k", self.top_k, 0, math.inf, whole=True)
        check("top_p", self.top_p, 0, 1, above_low=True)
        check("min_p", self.min_p, 0, 1)
        check("typical_p", self.typical_p, 0, 1, above_low=True)
        check("repetition_penalty", self.repetition_penalty, 0, math.inf, above_low=True, below_high=True)
        check("presence_penalty", self.presence_penalty, -math.inf, math.inf, True, True)
        check("frequency_penalty", self.frequency_penalty, -math.inf, math.inf, True, True)
        check("penalty_window", self.penalty_window, 0, math.inf, whole=True)
        check("seed", self.seed, 0, 2**64 - 1, whole=True)
        least = 1 if self.prompt_logprobs is None else 0
        check("max_tokens", self.max_tokens, least, math.inf, whole=True)
        check("logprobs", self.logprobs, 0, MAX_LOGPROBS, whole=True)
        check("prompt_logprobs", self.prompt_logprobs, 0, MAX_PROMPT_LOGPROBS, whole=True)
        object.__setattr__(self, "stop", stop_strings(self.stop))
        for token_id, bias in (self.logit_bias or {}).items():
            check("a token id of logit_bias", token_id, 0, math.inf, whole=True)
            check(f"logit_bias of token {token_id}", bias, -math.inf, math.inf, below_high=True)
        self._check_form()

    def _check_form(self) -> None:
        """At most one form, within its limits, and nothing that contradicts it."""
        forms = {"json_schema": self.json_schema, "regex": self.regex, "grammar": self.grammar}
        given = [name for name, value in forms.items() if value is not None]
        given += ["json_object"] if self.json_object else []
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other", "an answer has one form")
        if given and self.ignore_eos:
            raise UsageError(f"ignore_eos and {given[0]} exclude each other", "such an answer ends by itself")
        if self.json_schema is not None:
            object.__setattr__(self, "json_schema", schema_text(self.json_schema))
        if self.regex is not None:
            check_length("regex", self.regex)
        if self.grammar is not None:
            check_length("grammar", self.grammar)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def has_form(self) -> bool:
        """Whether the answer must look like something."""
        forms = (self.json_schema, self.regex, self.grammar)
        return self.json_object or any(form is not None for form in forms)

    def completed(self, recommended: SamplingParams) -> SamplingParams:
        """These parameters, with what is None taken from `recommended`, and then from `DEFAULTS`."""
        values: dict[str, Any] = {}
        for name in ("temperature", "top_k", "top_p", "min_p"):
            if getattr(self, name) is None:
                own = getattr(recommended, name)
                values[name] = getattr(DEFAULTS, name) if own is None else own
        return replace(self, **values)


def check(
    name: str,
    value: float | None,
    low: float,
    high: float,
    above_low: bool = False,
    below_high: bool = False,
    whole: bool = False,
) -> None:
    """Raise UsageError unless `value` is None or a number in the range; the bounds count unless told."""
    if value is None:
        return
    number = isinstance(value, int) if whole else isinstance(value, (int, float))
    if not number or isinstance(value, bool) or value != value:
        raise UsageError(f"{name} must be a {'whole ' if whole else ''}number", value=repr(value)[:64])
    if abs(value) > LARGEST and abs(value) != math.inf:  # no float, or no 64-bit number, could hold it
        raise UsageError(f"{name} is out of range", f"no number beyond {LARGEST} is read")
    if value < low or value > high or (above_low and value == low) or (below_high and value == high):
        bounds = []
        if low > -math.inf:
            bounds.append(f"{'above' if above_low else 'at least'} {low}")
        if high < math.inf or below_high:
            bounds.append("finite" if high == math.inf else f"{'below' if below_high else 'at most'} {high}")
        raise UsageError(f"{name} is out of range", f"it must be {' and '.join(bounds)}", value=value)


def stop_strings(stop: Sequence[str]) -> tuple[str, ...]:
    strings = (stop,) if isinstance(stop, str) else tuple(stop)
    if not all(isinstance(string, str) and string for string in strings):
        raise UsageError("stop must be strings of at least one character", stop=repr(strings))
    return strings


DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
"""Where neither the request nor the checkpoint says anything: the values that llama.cpp's users know."""

GGUF_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
}
GENERATION_CONFIG_KEYS = {name: name for name in GGUF_KEYS.values()}


def recommended_params(values: Mapping[str, Any], keys: Mapping[str, str]) -> SamplingParams:
    """What a checkpoint recommends: `values` under `keys` (their name there -> its field here).

    A value that is no valid parameter counts as absent: a recommendation must not keep a model from running.
    """
    params = SamplingParams()
    for key, field in keys.items():
        with suppress(UsageError):
            change: dict[str, Any] = {field: values.get(key)}
            params = replace(params, **change)
    return params
