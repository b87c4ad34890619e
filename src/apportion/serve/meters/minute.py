"""The last minute of an engine's steps: one bucket for each second, fed by `Engine.on_step`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

from apportion.core.histogram import SECONDS, TOKENS, Histogram
from apportion.engine.engine import Counters
from apportion.engine.executor import RunItem

SPAN_S = 60
MAX_REMEMBERED = 256  # requests whose last token's time is known; more than can run at once


@dataclass(slots=True)
class Sums:
    """What steps of some seconds came to.

    Attributes:
        busy_s: the steps' own seconds; prefill_s, decode_s: of those in which a prompt was read, or an answer
            went on. Where both was the case a step counts twice.
        prefill_tokens: of prompts, that passed the last layer; decode_tokens: of answers, after the first.
        token_s: the seconds of decode once for every answer that went on: decode_tokens / token_s is what
            a reader sees.
        nbytes_read: from the disk.
    """

    busy_s: float = 0.0
    prefill_s: float = 0.0
    prefill_tokens: int = 0
    decode_s: float = 0.0
    decode_tokens: int = 0
    token_s: float = 0.0
    nbytes_read: int = 0

    def add(self, other: Sums) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Minute:
    """Sums by the second, and for as long as the model is loaded the gaps between tokens and the sizes of
    steps. The thread that steps adds; others may read.

    Args:
        num_layers: of the model; only tokens that pass the last one count.
        counters: of the engine.
        nbytes_read: tells what was read from the disk so far.

    Attributes:
        gap_s: between the ends of the steps that gave an answer one token and the next.
        step_tokens: tokens that passed the last layer together.
    """

    def __init__(
        self, num_layers: int, counters: Counters, nbytes_read: Callable[[], int] = lambda: 0
    ) -> None:
        self.gap_s = Histogram(SECONDS)
        self.step_tokens = Histogram(TOKENS)
        self._num_layers = num_layers
        self._counters = counters
        self._nbytes_read = nbytes_read
        self._seen_nbytes = nbytes_read()
        self._accepted = counters.accepted_tokens
        self._seconds = [-1] * SPAN_S
        self._sums = [Sums() for _ in range(SPAN_S)]
        self._last_s: dict[int, float] = {}

    def __call__(self, items: Sequence[RunItem], begin_s: float, seconds: float) -> None:
        """A step that was carried out."""
        end_s = begin_s + seconds
        sums = self._bucket(int(end_s))
        prefill = decode = 0
        reads = False
        for item in items:
            if item.end_layer < self._num_layers:
                reads = True
                continue
            num_tokens = len(item.ids)
            if num_tokens == item.num_logits:
                decode += 1
            else:
                prefill += num_tokens
            if item.num_logits:
                self._count_gap(item.request, end_s)
        self._count(sums, prefill, decode, seconds, reads or prefill > 0)

    def sums(self, now_s: float, span_s: int = SPAN_S) -> Sums:
        """What the seconds up to now came to."""
        first, total = int(now_s) - span_s, Sums()
        for second, sums in zip(self._seconds, self._sums, strict=True):
            if second > first:
                total.add(sums)
        return total

    def forget(self, request: int) -> None:
        """It gets no more tokens."""
        self._last_s.pop(request, None)

    def _bucket(self, second: int) -> Sums:
        place = second % SPAN_S
        if self._seconds[place] != second:
            self._sums[place] = Sums()
            self._seconds[place] = second
        return self._sums[place]

    def _count(self, sums: Sums, prefill: int, decode: int, seconds: float, reads: bool) -> None:
        accepted = self._counters.accepted_tokens  # by the step before: this one's are not known yet
        right, self._accepted = accepted - self._accepted, accepted
        nbytes = self._nbytes_read()
        sums.nbytes_read += nbytes - self._seen_nbytes
        self._seen_nbytes = nbytes
        sums.busy_s += seconds
        if reads:
            sums.prefill_s += seconds
            sums.prefill_tokens += prefill
        if decode:
            sums.decode_s += seconds
            sums.decode_tokens += decode + right
            sums.token_s += decode * seconds
        if prefill or decode:
            self.step_tokens.add(prefill + decode)

    def _count_gap(self, request: int, end_s: float) -> None:
        before = self._last_s.pop(request, None)
        if before is not None:
            self.gap_s.add(end_s - before)
        elif len(self._last_s) >= MAX_REMEMBERED:
            del self._last_s[next(iter(self._last_s))]  # the one that got none for longest
        self._last_s[request] = end_s
