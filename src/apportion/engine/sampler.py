"""From one row of logits to one token: penalties, biases, filters, one draw.

What looks at a whole vocabulary is done by the core (`kernels.sampling`), so that choosing one of 262k tokens
costs some tens of microseconds; here stands the order of the steps.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import NotFinite
from apportion.engine.completion import Logprob, TokenLogprobs
from apportion.engine.params import SamplingParams
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints
from apportion.kernels.sampling import native_sampling

Ids: TypeAlias = NDArray[np.int32] | NDArray[np.int64]

# Hotter than this, all tokens are equally likely in float32 anyway; colder, only the best is left.
HOTTEST, COLDEST = 1e30, 1e-30


class Candidates(NamedTuple):
    """Tokens that may still be chosen: ids [n] and their logits [n], in no set order."""

    ids: Ints
    logits: Floats

    def take(self, places: Ints) -> Candidates:
        """Those at `places` [m]."""
        return Candidates(self.ids[places], self.logits[places])


@lru_cache(maxsize=2)
def all_ids(vocab_size: int) -> Ints:
    ids = np.arange(vocab_size, dtype=np.int32)
    ids.flags.writeable = False
    return ids


def penalised(logits: Floats, params: SamplingParams, prompt: Ids, output: Ids) -> Floats:
    """Logits after the penalties for what stands in the prompt [p] and the answer [o]; a copy if changed."""
    additive = params.presence_penalty or params.frequency_penalty
    if params.repetition_penalty == 1.0 and not additive:
        return logits
    window = params.penalty_window
    if window is not None:
        output = output[max(0, len(output) - window) :]
        prompt = prompt[max(0, len(prompt) - (window - len(output))) :]
    logits = logits.copy()
    native_sampling().penalise(
        logits,
        np.asarray(prompt, dtype=np.int32),
        np.asarray(output, dtype=np.int32),
        params.repetition_penalty,
        params.presence_penalty,
        params.frequency_penalty,
    )
    return logits


def biased(logits: Floats, ids: Ids, bias: Floats) -> Floats:
    """Logits with `bias` [n] added at `ids` [n]; a copy if changed."""
    if not len(ids):
        return logits
    logits = logits.copy()
    logits[ids] += bias
    return logits


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The k largest logits, best first; of equal ones at the border, the lower ids."""
    if k == 0 or k >= len(candidates.ids):
        return candidates
    return candidates.take(native_sampling().largest(candidates.logits, k))


def typical_p(candidates: Candidates, p: float) -> Candidates:
    """Those whose surprise is nearest to the expected one, until their probabilities reach p."""
    if p >= 1:
        return candidates
    surprise = native_sampling().log_sum(candidates.logits) - candidates.logits.astype(np.float64)
    probabilities = np.exp(-surprise)
    # What has no probability is infinitely surprising and adds nothing to what is expected.
    entropy = np.sum(probabilities * np.where(probabilities > 0, surprise, 0))
    nearest = np.argsort(np.abs(surprise - entropy), kind="stable")
    reached = np.cumsum(probabilities[nearest])
    kept = nearest[: np.searchsorted(reached, p * reached[-1]) + 1]
    return candidates.take(kept.astype(np.int32))


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest candidates whose probabilities reach p; at least one."""
    if p >= 1:
        return candidates
    return candidates.take(native_sampling().reaching(candidates.logits, p))


def min_p(candidates: Candidates, p: float) -> Candidates:
    """Those at least p times as likely as the likeliest."""
    if p == 0:
        return candidates
    ops, logits = native_sampling(), candidates.logits
    return candidates.take(ops.above(logits, logits[ops.best(logits)] + np.log(np.float32(p))))


def filtered(candidates: Candidates, params: SamplingParams) -> Candidates:
    """What the draw draws from. `params` are completed."""
    assert params.top_k is not None
    assert params.top_p is not None
    assert params.min_p is not None
    candidates = top_k(candidates, params.top_k)
    candidates = typical_p(candidates, params.typical_p)
    candidates = top_p(candidates, params.top_p)
    return min_p(candidates, params.min_p)


def draw(candidates: Candidates, temperature: float, uniform: float) -> int:
    """The id of one candidate, in proportion to exp(logit / temperature); `uniform` in [0, 1) decides."""
    bounded = min(max(temperature, COLDEST), HOTTEST)
    return int(candidates.ids[native_sampling().draw(candidates.logits, bounded, uniform)])


def logprobs(logits: Floats, chosen: int, num_alternatives: int) -> TokenLogprobs:
    """The chosen token's log-probability and the likeliest tokens', under the given logits [V]."""
    total = native_sampling().log_sum(logits)
    best = native_sampling().largest(logits, min(num_alternatives, len(logits))) if num_alternatives else ()
    ranked = tuple(Logprob(int(i), float(logits[i]) - total) for i in best)
    return TokenLogprobs(Logprob(chosen, float(logits[chosen]) - total), ranked)


def no_choice(best: int, logit: float) -> NotFinite:
    """The error for logits whose largest is no number, or of which every one is forbidden."""
    if logit == -np.inf:
        return NotFinite(
            "no next token can be chosen",
            "every token is forbidden",
            "relax logit_bias, or the form that the answer must have",
        )
    return NotFinite(
        "no next token can be chosen",
        "the model's largest logit is not a finite number",
        "a damaged file computes such numbers; `apportion verify` checks it",
        token_id=best,
        logit=logit,
    )


def confirm(best: int, logit: float) -> int:
    """The best token, by its logit.

    Raises:
        NotFinite: the logits hold a NaN, or nothing may be chosen.
    """
    if not math.isfinite(logit):
        raise no_choice(best, logit)
    return best


class Sampler:
    """One request's sampling: completed parameters and their random numbers.

    Args:
        params: completed (`SamplingParams.completed`).
        forbidden: ids that are never chosen (end-of-generation tokens under `ignore_eos`).
    """

    def __init__(self, params: SamplingParams, forbidden: frozenset[int] = frozenset()) -> None:
        self.params = params
        self.seed = (
            params.seed if params.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
        )
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        bias = dict(params.logit_bias or {}) | dict.fromkeys(forbidden, -np.inf)
        self._bias_ids: Ids = np.fromiter(bias, dtype=np.int64, count=len(bias))
        self._bias: Floats = np.fromiter(bias.values(), dtype=np.float32, count=len(bias))

    @property
    def never(self) -> tuple[int, ...] | None:
        """Ids that are never chosen, ascending, where the largest of the other logits always is; None where
        more than that decides.
        """
        params = self.params
        penalised = params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty
        if not params.greedy or penalised or params.logit_bias:
            return None
        return tuple(sorted(int(token_id) for token_id in self._bias_ids))

    def choose(self, logits: Floats, prompt: Ids, output: Ids) -> int:
        """The next token for logits [V], given the prompt's ids [p] and the answer's so far [o].

        Raises:
            NotFinite: the logits hold a NaN, or nothing may be chosen.
        """
        logits = penalised(logits, self.params, prompt, output)
        logits = biased(logits, self._bias_ids, self._bias)
        best = native_sampling().best(logits)  # the first NaN, if there is one
        confirm(best, float(logits[best]))
        if self.params.greedy:
            return best
        assert self.params.temperature is not None
        candidates = filtered(Candidates(all_ids(len(logits)), logits), self.params)
        return draw(candidates, self.params.temperature, self._random.random())
