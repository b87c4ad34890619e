"""One answer on its way through a grammar: which tokens may come next.

The mask of the next token is computed on a thread of its own, from the moment at which the last token is
known: while other answers' tokens are chosen, and the model computes the next logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from apportion.core.errors import LimitExceeded, UsageError
from apportion.formats.block import Bytes, Floats
from apportion.kernels.ops import Ints


class Matcher:
    """The state of one answer.

    Args:
        state: an `LLMatcher` that nobody else uses.
        vocab_size: tokens that the tokenizer knows; logits may have more, which are never chosen.
        num_tokens: tokens that the state knows.
    """

    def __init__(self, state: Any, vocab_size: int, num_tokens: int) -> None:
        self._state = state
        self._vocab_size = vocab_size
        self._bits: Bytes = np.zeros(-(-num_tokens // 32) * 4, np.uint8)
        self._flying: Future[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the answer is complete and nothing can follow."""
        self._land()
        return bool(self._state.is_stopped())

    @property
    def is_complete(self) -> bool:
        """Whether the answer may end here."""
        self._land()
        return bool(self._state.is_accepting())

    def start_mask(self) -> None:
        """Begin to compute the mask of the next token, unless it is under way or there is no next token."""
        if self._flying is None and not self._state.is_stopped():
            self._flying = mask_thread().submit(self._compute)

    def mask(self, logits: Floats) -> Floats:
        """The logits [V], minus infinity for tokens that may not come next; a copy.

        Raises:
            LimitExceeded: the grammar is too complex at this place.
        """
        self.start_mask()
        self._land()
        if self._state.is_error():
            raise too_complex(self._state.get_error())
        # One new array, written twice: for 262k tokens that takes 70 us, and 1,300 us with two.
        ceiling = np.take(ceilings(), self._bits, axis=0, mode="clip").reshape(-1)[: self._vocab_size]
        return np.minimum(logits[: self._vocab_size], ceiling, out=ceiling)

    def accept(self, token: int) -> None:
        """Take up the next token, and begin with the mask of the one after it.

        Raises:
            UsageError: the mask forbids the token.
            LimitExceeded: the grammar is too complex at this place.
        """
        self._land()
        self._flying = None
        if not self._state.consume_token(token):
            if self._state.stop_reason() in ("ParserTooComplex", "LexerTooComplex"):
                raise too_complex(self._state.get_error())
            raise UsageError("a token does not continue the answer", "its grammar forbids it", token_id=token)
        self.start_mask()

    def num_accepted(self, ids: Sequence[int] | Ints) -> int:
        """How many of `ids`, one after the other, may come next; nothing changes."""
        self._land()
        return int(self._state.validate_tokens([int(token) for token in ids]))

    def _compute(self) -> None:
        self._state.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)

    def _land(self) -> None:
        """Nothing else touches the state while a mask is being computed."""
        if self._flying is not None:
            self._flying.result()


def too_complex(why: str) -> LimitExceeded:
    return LimitExceeded(
        "the answer's grammar is too complex here",
        " ".join(why.replace("<non-verbose/>", "").split())[:200],
        "write a simpler one: fewer repetitions and alternatives",
    )


@cache
def mask_thread() -> Executor:
    """The thread that computes masks, of all answers one after the other; it holds no lock of Python's."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="apportion-masks")


@cache
def ceilings() -> Floats:
    """For each byte of a mask the ceilings of its eight tokens: [256, 8], infinite or minus infinity."""
    bits = np.arange(256)[:, None] >> np.arange(8) & 1
    return np.where(bits, np.inf, -np.inf).astype(np.float32)
