"""Requests that clients wait for."""

from __future__ import annotations

from typing import Literal, TypeAlias

from apportion.engine.request import State
from apportion.serve.answer import Answer
from apportion.serve.schemas.status import RequestStatus

Phase: TypeAlias = Literal["waiting", "loading", "prefill", "decode"]
PHASES: tuple[Phase, ...] = ("waiting", "loading", "prefill", "decode")


def phase_of(answer: Answer) -> Phase:
    """How far it is: as far as the first of its answers is that has come furthest."""
    requests = answer.requests
    if any(request.spent.first_token_s is not None for request in requests):
        return "decode"
    states = {request.state for request in requests}
    if State.RUNNING in states:
        return "prefill"
    return "loading" if State.LOADING in states else "waiting"


def request_of(answer: Answer, now_s: float) -> RequestStatus:
    """One of them."""
    requests, label = answer.requests, answer.label
    firsts = [one.spent.first_token_s for one in requests if one.spent.first_token_s is not None]
    first_s = min(firsts, default=None)
    computed, prompt_tokens = answer.progress
    output_tokens = sum(len(one.sequence.output) for one in requests)
    since = 0.0 if first_s is None else now_s - first_s
    return RequestStatus(
        id=label.id,
        model=label.model,
        state=phase_of(answer),
        choices=len(requests),
        prompt_tokens=prompt_tokens,
        cached_tokens=sum(one.num_cached or 0 for one in requests),
        computed_tokens=computed,
        output_tokens=output_tokens,
        max_tokens=sum(one.sequence.max_output for one in requests),
        age_s=now_s - answer.began_s,
        ttft_s=None if first_s is None else first_s - answer.began_s,
        tok_s=output_tokens / since if since > 0 else None,
    )
