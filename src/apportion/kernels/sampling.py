"""The steps of sampling that look at a whole vocabulary: one protocol, the C++ core and a NumPy reference.

Logits are float32 [n], finite or minus infinity unless stated; results are places in them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from apportion import _native
from apportion.formats.block import Floats
from apportion.kernels.native import choose_isa
from apportion.kernels.ops import Ints


class SamplingOps(Protocol):
    """What choosing a token is made of."""

    def best(self, logits: Floats) -> int:
        """The place of the largest number, of equal ones the first; or that of the first NaN."""

    def largest(self, logits: Floats, count: int) -> Ints:
        """Places of the `count` largest (1 to n), best first, of equal ones the lower place first."""

    def above(self, logits: Floats, least: float) -> Ints:
        """Places, ascending, of all that are at least `least`."""

    def reaching(self, logits: Floats, target: float) -> Ints:
        """Places, ascending, of the fewest whose probabilities reach `target`; at least one."""

    def log_sum(self, logits: Floats) -> float:
        """log(sum(exp(logits)))."""

    def draw(self, logits: Floats, temperature: float, uniform: float) -> int:
        """A place in proportion to exp(logit / temperature); `uniform` in [0, 1) cuts the running sum."""

    def penalise(
        self,
        logits: Floats,
        prompt: Ints,
        answer: Ints,
        repetition: float,
        presence: float,
        frequency: float,
    ) -> None:
        """Change, in place, the logits [V] of ids that stand in the prompt [p] or the answer [o].

        `repetition` divides positive and multiplies negative logits of all ids seen; from those of the answer
        `presence` is taken once and `frequency` for each occurrence.
        """


class NativeSampling:
    """`SamplingOps` on this machine's processor, on one thread.

    Raises:
        UsageError: this machine does not have the instruction set.
    """

    def __init__(self, isa: str | None = None) -> None:
        self._isa = choose_isa(isa)

    def best(self, logits: Floats) -> int:
        return _native.best_logit(self._isa, logits)

    def largest(self, logits: Floats, count: int) -> Ints:
        out = np.empty(count, np.int32)
        return out[: _native.largest_logits(self._isa, logits, count, out)]

    def above(self, logits: Floats, least: float) -> Ints:
        out = np.empty(len(logits), np.int32)
        return out[: _native.logits_above(self._isa, logits, least, out)]

    def reaching(self, logits: Floats, target: float) -> Ints:
        out = np.empty(len(logits), np.int32)
        return out[: _native.logits_reaching(self._isa, logits, target, out)]

    def log_sum(self, logits: Floats) -> float:
        return _native.log_sum_logits(self._isa, logits)

    def draw(self, logits: Floats, temperature: float, uniform: float) -> int:
        return _native.draw_logit(self._isa, logits, temperature, uniform)

    def penalise(
        self,
        logits: Floats,
        prompt: Ints,
        answer: Ints,
        repetition: float,
        presence: float,
        frequency: float,
    ) -> None:
        _native.penalise_logits(logits, prompt, answer, repetition, presence, frequency)


class ReferenceSampling:
    """`SamplingOps` in NumPy, written to be read: sorts everything."""

    def best(self, logits: Floats) -> int:
        return int(logits.argmax())

    def largest(self, logits: Floats, count: int) -> Ints:
        return np.argsort(-logits, kind="stable")[:count].astype(np.int32)

    def above(self, logits: Floats, least: float) -> Ints:
        return np.flatnonzero(logits >= np.float32(least)).astype(np.int32)

    def reaching(self, logits: Floats, target: float) -> Ints:
        order = np.argsort(-logits, kind="stable").astype(np.int32)
        weights = np.exp(logits[order].astype(np.float64) - float(logits.max()))
        running = np.cumsum(weights)
        return np.sort(order[: np.searchsorted(running, target * running[-1]) + 1])

    def log_sum(self, logits: Floats) -> float:
        top = float(logits.max())
        return top + float(np.log(np.sum(np.exp(logits.astype(np.float64) - top))))

    def draw(self, logits: Floats, temperature: float, uniform: float) -> int:
        weights = np.exp((logits.astype(np.float64) - float(logits.max())) / temperature)
        running = np.cumsum(weights)
        return int(np.searchsorted(running, uniform * running[-1], side="right"))

    def penalise(
        self,
        logits: Floats,
        prompt: Ints,
        answer: Ints,
        repetition: float,
        presence: float,
        frequency: float,
    ) -> None:
        seen = np.unique(np.concatenate([prompt, answer]))
        factor = np.float32(repetition)
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / factor, logits[seen] * factor)
        used, counts = np.unique(answer, return_counts=True)
        logits[used] -= np.float32(presence) + np.float32(frequency) * counts.astype(np.float32)


@lru_cache(maxsize=1)
def native_sampling() -> NativeSampling:
    """The core's steps on the instruction set of the setting `isa`, or the fastest."""
    return NativeSampling()
