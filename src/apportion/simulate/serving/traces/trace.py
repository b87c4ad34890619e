"""A request of a trace, what its tokens are, and how a data centre's load is brought down to a machine's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from apportion.core.errors import UsageError
from apportion.kernels.ops import Ints


@dataclass(frozen=True, slots=True)
class TracedRequest:
    """One request.

    Attributes:
        arrival_s: after the trace's beginning.
        num_prompt, num_output: tokens, at least 1 each.
        prefix: names of the prompt's pieces of `piece_tokens` tokens, the last of which may be cut; prompts
            with equal names at the front begin with equal tokens. Empty: nothing is shared.
        tenant: whose it is; empty where a trace does not say.
    """

    arrival_s: float
    num_prompt: int
    num_output: int
    prefix: tuple[int, ...] = ()
    piece_tokens: int = 0
    tenant: str = ""


def scaled(
    requests: Iterable[TracedRequest], *, interval: float = 1.0, length: float = 1.0, every: int = 1
) -> Iterator[TracedRequest]:
    """The same load, `interval` times as far apart, of `length` times as many tokens (rounded, at least 1).

    Bursts and the relations between lengths stay what they were. Of a load that is too much only every
    so-many-th request is taken, the first among them: how it swells and ebbs stays.

    Raises:
        UsageError: a factor is not above 0.
    """
    if not (interval > 0 and length > 0 and every > 0):
        raise UsageError(
            "a trace is scaled by factors above 0", interval=interval, length=length, every=every
        )
    for request in islice(requests, 0, None, every):
        yield replace(
            request,
            arrival_s=request.arrival_s * interval,
            num_prompt=max(round(request.num_prompt * length), 1),
            num_output=max(round(request.num_output * length), 1),
            piece_tokens=max(round(request.piece_tokens * length), 1) if request.prefix else 0,
        )


def prompt_ids(request: TracedRequest, number: int, vocab: int) -> Ints:
    """Tokens for a prompt [num_prompt] int32, below `vocab`: drawn from the names of its pieces, or from the
    request's number in the trace where it has none.
    """
    if not request.prefix:
        return _piece((1, number), request.num_prompt, vocab)
    pieces = [_piece((0, name), request.piece_tokens, vocab) for name in request.prefix]
    named = np.concatenate(pieces)[: request.num_prompt]
    rest = request.num_prompt - len(named)  # rounding a scaled length may leave some tokens unnamed
    return np.concatenate([named, _piece((1, number), rest, vocab)]) if rest else named


def _piece(seed: tuple[int, int], num_tokens: int, vocab: int) -> Ints:
    return np.random.default_rng(seed).integers(0, vocab, num_tokens, dtype=np.int32)
