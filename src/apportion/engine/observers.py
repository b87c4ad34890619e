"""Who looks at a prompt's hidden states: log-probabilities of its tokens, and embeddings of texts.

States are those after the last layer, before the last norm. They come a bounded number of tokens at a time;
so do the rows of logits that are made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import NotFinite
from apportion.core.units import MiB
from apportion.engine.completion import Logprob, TokenLogprobs
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints
from apportion.kernels.sampling import native_sampling

Rows: TypeAlias = Callable[[Floats], Floats]
Pooling: TypeAlias = Literal["mean", "last"]

STATES_NBYTES = LOGITS_NBYTES = 8 * MiB  # of each at a time
OBSERVING_NBYTES = STATES_NBYTES + LOGITS_NBYTES


class Observer(Protocol):
    """Takes in the hidden states of a prompt's tokens, in any runs, some of them perhaps twice."""

    @property
    def needs_from(self) -> int:
        """The first token whose state it needs still; those before may be found in memory."""

    @property
    def is_done(self) -> bool:
        """Whether it needs no more."""

    def take_in(self, first: int, states: Floats) -> None:
        """States [n, H] of the tokens from number `first` on; they hold for the call alone. Never raises."""

    def check(self) -> None:
        """
        Raises:
            NotFinite: what was taken in is no number.
        """

    def logprobs(self) -> tuple[TokenLogprobs | None, ...] | None:
        """Of the prompt's tokens, the first None; None where nobody asked for them."""


def states_at_once(hidden_size: int) -> int:
    """Tokens whose states have room at a time."""
    return max(1, STATES_NBYTES // (4 * hidden_size))


class PromptLogprobs:
    """`Observer` that finds how likely each token of a prompt was after those before it.

    Args:
        prompt: token ids [n].
        num_top: how many alternatives are reported beside each.
        head: hidden states [m, H] -> logits [m, at least V].
        vocab_size: V; logits behind them are padding.
    """

    def __init__(self, prompt: Ints, num_top: int, head: Rows, vocab_size: int) -> None:
        num_top = min(num_top, vocab_size)
        self._prompt = prompt
        self._head = head
        self._vocab_size = vocab_size
        self._num_known = 1  # of the first tokens; nothing comes before the first
        self._chosen = np.zeros(len(prompt))
        self._top_ids = np.zeros((len(prompt), num_top), np.int32)
        self._top = np.zeros((len(prompt), num_top))

    @property
    def needs_from(self) -> int:
        return self._num_known - 1

    @property
    def is_done(self) -> bool:
        return self._num_known == len(self._prompt)

    def take_in(self, first: int, states: Floats) -> None:
        # A state tells of the token behind it.
        begin = max(first, self.needs_from)
        end = min(first + len(states), len(self._prompt) - 1)
        for rows in row_runs(begin, end, self._vocab_size):
            logits = self._head(states[rows.start - first : rows.stop - first])[:, : self._vocab_size]
            for place, row in enumerate(logits, rows.start + 1):
                self._take_row(place, row)
            self._num_known = rows.stop + 1

    def _take_row(self, place: int, row: Floats) -> None:
        ops, num_top = native_sampling(), self._top.shape[1]
        total = ops.log_sum(row)
        self._chosen[place] = row[self._prompt[place]] - total
        if num_top and not np.isnan(total):
            best = ops.largest(row, num_top)
            self._top_ids[place] = best
            self._top[place] = row[best] - total

    def check(self) -> None:
        if np.isnan(self._chosen[: self._num_known]).any():
            raise NotFinite(
                "the likelihood of a token of the prompt is no number",
                "the model computed NaN or infinity",
                "a damaged file computes such numbers; `apportion verify` checks it",
            )

    def logprobs(self) -> tuple[TokenLogprobs | None, ...] | None:
        known = slice(1, self._num_known)
        chosen = zip(self._prompt[known].tolist(), self._chosen[known].tolist(), strict=True)
        tops = zip(self._top_ids[known].tolist(), self._top[known].tolist(), strict=True)
        entries = [
            TokenLogprobs(Logprob(*one), tuple(map(Logprob, ids, values)))
            for one, (ids, values) in zip(chosen, tops, strict=True)
        ]
        unknown = [None] * (len(self._prompt) - self._num_known)  # of a request that was cancelled
        return (None, *entries, *unknown)


class Embedding:
    """`Observer` that pools the states of a text's tokens into one vector.

    Args:
        num_tokens: of the text.
        pooling: the mean of all tokens' states, or the last one's.
        norm: hidden states [m, H] -> what the last norm makes of them, [m, H].
    """

    def __init__(self, num_tokens: int, pooling: Pooling, norm: Rows) -> None:
        self._num_tokens = num_tokens
        self._norm = norm
        self._num_done = num_tokens - 1 if pooling == "last" else 0
        self._num_pooled = num_tokens - self._num_done
        self._sum: NDArray[np.float64] = np.zeros(())

    @property
    def needs_from(self) -> int:
        return self._num_done

    @property
    def is_done(self) -> bool:
        return self._num_done == self._num_tokens

    def take_in(self, first: int, states: Floats) -> None:
        begin, end = max(first, self._num_done), first + len(states)
        if begin < end and first <= self._num_done:
            for row in self._norm(np.ascontiguousarray(states[begin - first :])):
                self._sum = self._sum + row  # one by one: the sum does not depend on how they came
            self._num_done = end

    def check(self) -> None:
        if not np.isfinite(self._sum).all():
            raise NotFinite(
                "an embedding is no number",
                "the model computed NaN or infinity",
                "a damaged file computes such numbers; `apportion verify` checks it",
            )

    def logprobs(self) -> None:
        return None

    def vector(self, normalize: bool) -> Floats:
        """[H] float32; of length 1 where it is to be normalized and is not 0."""
        assert self.is_done, "a text that was not read to its end"
        pooled = self._sum / self._num_pooled
        length = float(np.linalg.norm(pooled)) if normalize else 1.0
        return np.asarray(pooled / (length or 1.0), dtype=np.float32)


def row_runs(begin: int, end: int, vocab_size: int) -> Iterator[slice]:
    """Runs of rows whose logits together stay within `LOGITS_NBYTES`."""
    step = max(1, LOGITS_NBYTES // (4 * vocab_size))
    for start in range(begin, end, step):
        yield slice(start, min(start + step, end))
