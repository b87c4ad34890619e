"""A model's grammars: compiled once each, kept within a bound, copied for every answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from apportion.engine.grammar.check import Check, refusal
from apportion.engine.grammar.check_worker import limits
from apportion.engine.grammar.matcher import Matcher
from apportion.engine.grammar.spec import Spec
from apportion.engine.grammar.vocabulary import FORMS_NBYTES, NBYTES_PER_TOKEN, guide_tokenizer

if TYPE_CHECKING:
    from apportion.text.tokenizer import Tokenizer

CACHE_NBYTES = 64 << 20
LEAST_NBYTES = 64 << 10  # of a small compiled grammar
GROWTH = 256  # bytes of a compiled grammar for each of its text; measured up to 275


class Grammars:
    """Gives every answer that must have a form its matcher.

    Safe to share between threads.

    Args:
        cache_nbytes: of compiled grammars that are kept for later answers; those used last stay.
        pay: asked once, before anything is loaded, for the bytes that all of it will take.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        cache_nbytes: int = CACHE_NBYTES,
        pay: Callable[[int], None] = lambda nbytes: None,
    ) -> None:
        self._tokenizer = tokenizer
        self._cache_nbytes = cache_nbytes
        self._pay = pay
        self._check = Check()
        self._lock = Lock()
        self._kept: OrderedDict[Spec, tuple[Any, int]] = OrderedDict()

    @property
    def kept_nbytes(self) -> int:
        """What the kept grammars take, by estimate."""
        return sum(nbytes for _, nbytes in self._kept.values())

    def matcher(self, spec: Spec) -> Matcher:
        """A matcher at its beginning.

        Raises:
            UsageError: the specification is not well-formed, or nothing satisfies it.
            LimitExceeded: compiling it takes too long or too much memory.
            DoesNotFit: the budget has no room for what forms take.
        """
        with self._lock:
            found = self._kept.pop(spec, None) or self._compiled(spec)
            self._kept[spec] = found
            while self.kept_nbytes > self._cache_nbytes:
                self._kept.popitem(last=False)
            state = found[0].deep_copy()
            words = self._words
        matcher = Matcher(state, self._tokenizer.vocab_size, words.vocab_size)
        matcher.start_mask()
        return matcher

    def close(self) -> None:
        """Forget everything, and end the child process."""
        with self._lock:
            self._kept.clear()
            self._check.close()

    def _compiled(self, spec: Spec) -> tuple[Any, int]:
        """A compiled grammar at its beginning, and what it takes."""
        grammar, words = self._check.grammar(spec), self._words
        from llguidance import LLMatcher

        state = LLMatcher(words, grammar, log_level=0, limits=limits())
        if state.is_error():
            raise refusal(spec, state.get_error())
        return state, LEAST_NBYTES + GROWTH * len(grammar)

    @cached_property
    def _words(self) -> Any:
        self._pay(FORMS_NBYTES + NBYTES_PER_TOKEN * self._tokenizer.vocab_size)
        return guide_tokenizer(self._tokenizer)
