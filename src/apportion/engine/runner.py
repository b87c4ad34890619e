"""Runs a model over sequences: one KV cache, its common prefix kept from one sequence to the next."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from apportion.engine.sequence import Sequence
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import Model

T = TypeVar("T")

PREFILL_CHUNK = 512  # tokens per pass; beyond it products gain little, and a cancel waits longer


class Runner:
    """A model and the KV of the last tokens it saw.

    Sequences may alternate, also from several threads: each step first cuts the cache back to what it shares
    with the sequence at hand, so the result never depends on who ran before, only the time does.

    Args:
        capacity: positions of the KV cache.
        kv: number type of the KV cache.
        tokens_per_pass: the most that are computed at once. Where weights come and go, all of a prompt: each
            weight is then read once for it.
    """

    def __init__(
        self,
        model: Model,
        capacity: int,
        kv: type[np.float16] | type[np.float32],
        tokens_per_pass: int = PREFILL_CHUNK,
    ) -> None:
        self.model = model
        self.capacity = capacity
        self.tokens_per_pass = tokens_per_pass
        self._cache = model.new_cache(capacity, kv)
        self._owner: Sequence | None = None  # whose first tokens the cache holds
        self._lock = Lock()

    def step(self, sequence: Sequence) -> Floats | None:
        """Compute the next run of the sequence's tokens that the cache lacks.

        Returns the logits [V] that follow the sequence's last token, or None while some are still to come.
        """
        with self._lock:
            start = self.num_shared(sequence)
            self._cache.truncate(start)
            self._owner = sequence
            ids = sequence.ids
            try:
                logits = self.model.forward(ids[start : start + self.tokens_per_pass], self._cache)
            except BaseException:  # Ctrl-C included: layers may have appended, but the run is not in
                self._cache.truncate(start)
                raise
            return logits[-1] if self._cache.length == len(ids) else None

    def between_steps(self, act: Callable[[], T]) -> T:
        """Call `act` while no step runs."""
        with self._lock:
            return act()

    def num_shared(self, sequence: Sequence) -> int:
        """How many leading tokens of the sequence need no computing.

        The last token always does, even when the cache holds it, because its logits are needed.
        """
        owner, most = self._owner, min(self._cache.length, len(sequence.ids) - 1)
        if owner is sequence:  # which has only grown
            return most
        return 0 if owner is None else common_prefix(owner.ids[:most], sequence.ids[:most])


def common_prefix(a: Ints, b: Ints) -> int:
    """How many leading items are equal."""
    length = min(len(a), len(b))
    different = np.flatnonzero(a[:length] != b[:length])
    return int(different[0]) if len(different) else length
