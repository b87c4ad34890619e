"""Guesses from the text itself: what followed where its last tokens stood before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apportion.engine.speculation.length import AdaptiveLength, Costs
from apportion.engine.speculation.ways import Way
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel

LEAST_MATCH, MOST_MATCH = 2, 8
NOTHING: Ints = np.empty(0, np.int32)


class PromptLookup(Way):
    """Guesses that the text goes on as it did where its last tokens stood before: free, and right where an
    answer quotes, edits or repeats.

    Source: A. Saxena, "Prompt Lookup Decoding" (2023).
    """

    sentence = "Guesses that text goes on as it did where its last tokens stood before."

    def open(self, argument: str, target: LoadedModel, ctx: int, concurrency: int) -> Lookups:
        return Lookups()


class Lookups:
    """Lookups for the requests of one engine, which share what steps cost."""

    def __init__(self) -> None:
        self._costs = Costs()

    def drafter(self) -> LookupDrafter:
        return LookupDrafter(AdaptiveLength(self._costs))

    def close(self) -> None:
        return None


class LookupDrafter:
    """One request's guesses."""

    def __init__(self, length: AdaptiveLength) -> None:
        self._length = length
        self._asked = False

    def propose(self, ids: Ints, most: int) -> Ints:
        """What followed the last tokens of `ids` [n] where they stood before; at most `most` tokens."""
        self._asked = True
        count = min(most, self._length.choose())
        return looked_up(ids, count) if count else NOTHING

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        if self._asked:  # a step that read the prompt says nothing about guesses
            self._length.took(proposed, accepted, seconds)


def looked_up(ids: Ints, most: int, least_match: int = LEAST_MATCH, most_match: int = MOST_MATCH) -> Ints:
    """The `most` tokens after the longest, and of these the last, match of the end of `ids` [n]; none where
    fewer than `least_match` tokens match. A match that reaches into the end goes on repeating.
    """
    last = len(ids) - 1
    ends = np.flatnonzero(ids[:last] == ids[last])  # where the last token of a match stands
    for length in range(1, most_match):
        longer = ends[ends >= length]
        longer = longer[ids[longer - length] == ids[last - length]] if length <= last else longer[:0]
        if not len(longer):
            if length < least_match:
                return NOTHING
            break
        ends = longer
    if not len(ends):
        return NOTHING
    return np.resize(ids[ends[-1] + 1 :], most)


WAY = PromptLookup()
