"""From one row of logits to one token: a chain of small functions, each over candidates (ids, logits).

Everything is vectorised over the vocabulary and sorts only what a filter may keep, so that a vocabulary of
262k tokens costs about a millisecond.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import NotFinite
from apportion.engine.completion import Logprob, TokenLogprobs
from apportion.engine.params import SamplingParams
from apportion.formats.block import Floats

Ids: TypeAlias = NDArray[np.int32] | NDArray[np.int64]
Doubles: TypeAlias = NDArray[np.float64]

DRAW_GROUP = 512


HOTTEST, COLDEST = 1e30, 1e-30


class Candidates(NamedTuple):
    """Tokens that may still be chosen: ids [n] and their logits [n], in no set order."""

    ids: Ids
    logits: Floats


@lru_cache(maxsize=2)
def all_ids(vocab_size: int) -> Ids:
    ids = np.arange(vocab_size)
    ids.flags.writeable = False
    return ids


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities [n] of logits [n]; exact zeros where exp underflows."""
    shifted = logits - logits.max()
    # Hotter than this, all tokens are equally likely in float32 anyway; colder, only the best is left.
    divisor = np.float32(min(max(temperature, COLDEST), HOTTEST))
    with np.errstate(over="ignore"):  # -inf / tiny is -inf, as it should be
        weights: Floats = np.exp(shifted / divisor)
    weights /= np.float32(weights.sum(dtype=np.float64))
    return weights


def penalised(logits: Floats, params: SamplingParams, prompt: Ids, output: Ids) -> Floats:
    """Logits after the penalties for what stands in the prompt [p] and the answer [o]; a copy if changed."""
    window = params.penalty_window
    if window is not None:
        output = output[max(0, len(output) - window) :]
        prompt = prompt[max(0, len(prompt) - (window - len(output))) :]
    if params.repetition_penalty != 1.0 and len(prompt) + len(output):
        seen = np.unique(np.concatenate([prompt, output]))
        factor = np.float32(params.repetition_penalty)
        logits = logits.copy()
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
    if (params.presence_penalty or params.frequency_penalty) and len(output):
        used, counts = np.unique(output, return_counts=True)
        logits = logits.copy()
        logits[used] -= np.float32(params.presence_penalty) + np.float32(params.frequency_penalty) * counts
    return logits


def biased(logits: Floats, ids: Ids, bias: Floats) -> Floats:
    """Logits with `bias` [n] added at `ids` [n]; a copy if changed."""
    if not len(ids):
        return logits
    logits = logits.copy()
    logits[ids] += bias
    return logits


def top_k(candidates: Candidates, k: int) -> Candidates:
    """The k largest logits; of equal ones at the border, any."""
    if k == 0 or k >= len(candidates.ids):
        return candidates
    kept = np.argpartition(candidates.logits, len(candidates.ids) - k)[-k:]
    return Candidates(candidates.ids[kept], candidates.logits[kept])


def top_p(candidates: Candidates, p: float) -> Candidates:
    """The fewest candidates whose probabilities reach p; at least one."""
    if p >= 1:
        return candidates
    kept = smallest_reaching(-candidates.logits, softmax(candidates.logits), p)
    return Candidates(candidates.ids[kept], candidates.logits[kept])


def typical_p(candidates: Candidates, p: float) -> Candidates:
    """Those whose surprise is nearest to the expected one, until their probabilities reach p."""
    if p >= 1:
        return candidates
    probabilities = softmax(candidates.logits)
    surprise = -np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    entropy = np.float32(np.sum(probabilities * surprise, dtype=np.float64))
    kept = smallest_reaching(np.abs(surprise - entropy), probabilities, p)
    return Candidates(candidates.ids[kept], candidates.logits[kept])


def min_p(candidates: Candidates, p: float) -> Candidates:
    """Those at least p times as likely as the likeliest."""
    if p == 0:
        return candidates
    kept = candidates.logits >= candidates.logits.max() + np.log(np.float32(p))
    return Candidates(candidates.ids[kept], candidates.logits[kept])


def smallest_reaching(keys: Floats, masses: Floats, target: float) -> Ids:
    """Indices by ascending key, as few as reach `target` in mass; partitions before it sorts."""
    size = 256
    while True:
        near = np.argpartition(keys, size)[:size] if size < len(keys) else np.arange(len(keys))
        order = near[np.argsort(keys[near])]
        reached = np.cumsum(masses[order], dtype=np.float64)
        if reached[-1] >= target or size >= len(keys):
            return order[: np.searchsorted(reached, target) + 1]
        size *= 16


def distribution(candidates: Candidates, params: SamplingParams) -> tuple[Ids, Floats]:
    """What the draw draws from: token ids [n] and their probabilities [n].

    `params` are completed and not greedy.
    """
    assert params.top_k is not None
    assert params.top_p is not None
    assert params.min_p is not None
    assert params.temperature
    candidates = top_k(candidates, params.top_k)
    candidates = typical_p(candidates, params.typical_p)
    candidates = top_p(candidates, params.top_p)
    candidates = min_p(candidates, params.min_p)
    return candidates.ids, softmax(candidates.logits, params.temperature)


def draw(weights: Floats, uniform: float) -> int:
    """An index in proportion to weights [n], by inverting their running sum at `uniform` in [0, 1).

    Two levels, groups and then one group, since a running sum of the whole vocabulary takes 5 ms.
    """
    starts = np.arange(0, len(weights), DRAW_GROUP)
    groups = np.cumsum(np.add.reduceat(weights, starts, dtype=np.float64))
    target = uniform * groups[-1]
    group = first_above(groups, target)
    inside = np.cumsum(weights[starts[group] :][:DRAW_GROUP], dtype=np.float64)
    before = groups[group - 1] if group else 0.0
    return int(starts[group]) + first_above(inside, target - before)


def first_above(running: Doubles, target: float) -> int:
    """The first index whose running sum passes `target`; rounding never leads to an item of no weight."""
    below_end = np.nextafter(running[-1], 0.0)
    return int(np.searchsorted(running, min(target, below_end), side="right"))


def logprobs(logits: Floats, chosen: int, num_alternatives: int) -> TokenLogprobs:
    """The chosen token's log-probability and the likeliest tokens', under the given logits [V]."""
    largest = logits.max()
    total = float(largest) + float(np.log(np.sum(np.exp(logits - largest), dtype=np.float64)))
    best = top_k(Candidates(all_ids(len(logits)), logits), num_alternatives).ids if num_alternatives else ()
    ranked = sorted(
        (Logprob(int(i), float(logits[i]) - total) for i in best), key=lambda it: (-it.logprob, it.token_id)
    )
    return TokenLogprobs(Logprob(chosen, float(logits[chosen]) - total), tuple(ranked))


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

    def choose(self, logits: Floats, prompt: Ids, output: Ids) -> int:
        """The next token for logits [V], given the prompt's ids [p] and the answer's so far [o].

        Raises:
            NotFinite: the logits hold a NaN, or nothing may be chosen.
        """
        logits = penalised(logits, self.params, prompt, output)
        logits = biased(logits, self._bias_ids, self._bias)
        best = int(logits.argmax())  # the first NaN, if there is one
        if not np.isfinite(logits[best]):
            raise NotFinite(
                "no next token can be chosen",
                "the model's largest logit is not a finite number",
                "a damaged file computes such numbers; `apportion verify` checks it",
                token_id=best,
                logit=float(logits[best]),
            )
        if self.params.greedy:
            return best
        ids, probabilities = distribution(Candidates(all_ids(len(logits)), logits), self.params)
        return int(ids[draw(probabilities, self._random.random())])
