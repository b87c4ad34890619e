"""One request on its way: its tokens, its sampler, and the text that is safe to show."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.errors import ContextOverflow, UsageError
from apportion.engine.completion import Delta, FinishReason, TokenLogprobs
from apportion.engine.params import SamplingParams
from apportion.engine.sampler import Sampler, confirm, logprobs
from apportion.formats.block import Floats
from apportion.kernels.ops import BestOf, Ints
from apportion.text.detokenizer import Detokenizer
from apportion.text.stop import StopStrings

if TYPE_CHECKING:
    from apportion.engine.grammar import Matcher
    from apportion.text.tokenizer import Tokenizer

NO_LOGITS: Floats = np.empty(0, np.float32)


class Sequence:
    """The tokens of a prompt and of the answer that grows behind it.

    Args:
        prompt: token ids, at least one.
        params: completed.
        capacity: positions of the context; prompt and answer share them.
        continues: the answer goes on in the prompt's text, so that a space at its beginning counts.
        grammar: what the answer must look like, of `params`; nobody else's.
        shown: control tokens whose text is part of the answer's.

    Raises:
        ContextOverflow: the prompt, or the prompt and `max_tokens`, are longer than the context.
        UsageError: the prompt is empty, or `logit_bias` names a token that the model does not have.
    """

    def __init__(
        self,
        prompt: Ints,
        params: SamplingParams,
        tokenizer: Tokenizer,
        capacity: int,
        *,
        continues: bool = True,
        grammar: Matcher | None = None,
        shown: Collection[int] = (),
    ) -> None:
        self.num_prompt = len(prompt)
        self.max_output = max_output(len(prompt), params.max_tokens, capacity)
        self.finish_reason: FinishReason | None = None
        self.text = ""
        self.logprobs: list[TokenLogprobs] = []
        self.end_logprobs: TokenLogprobs | None = None
        check_ids(params, tokenizer.vocab_size)
        self.sampler = Sampler(params, tokenizer.eog_ids if params.ignore_eos else frozenset())
        self.best_of = self._best_of(tokenizer.vocab_size, grammar)
        self._eog_ids = tokenizer.eog_ids
        self.grammar = grammar
        # Whether a space at the beginning may be there is for the grammar to say.
        continues = continues or grammar is not None
        self._detokenizer = Detokenizer(tokenizer, skip_special=True, continues=continues, shown=shown)
        self._vocab_size = tokenizer.vocab_size
        self._stop = StopStrings(list(params.stop))
        self._ids = np.empty(len(prompt) + self.max_output, dtype=np.int32)
        self._ids[: len(prompt)] = prompt
        self._length = len(prompt)

    def _best_of(self, vocab_size: int, grammar: Matcher | None) -> BestOf | None:
        """Of which logits the largest alone decides; None where more of them are asked for."""
        never = self.sampler.never
        if never is None or grammar is not None or self.sampler.params.logprobs is not None:
            return None
        return BestOf(vocab_size, never)

    @property
    def ids(self) -> Ints:
        """Prompt and answer so far, [n] int32; a view."""
        return self._ids[: self._length]

    @property
    def prompt(self) -> Ints:
        return self._ids[: self.num_prompt]

    @property
    def output(self) -> Ints:
        return self._ids[self.num_prompt : self._length]

    def extend(self, logits: Floats) -> Delta:
        """Choose the next token from its logits [V] and take it up.

        Raises:
            NotFinite: the logits hold a NaN, or nothing may be chosen.
            LimitExceeded: the answer's grammar is too complex at this place.
        """
        logits = logits[: self._vocab_size]  # models pad their output to a round number
        allowed = logits if self.grammar is None else self.grammar.mask(logits)
        return self._take_up(self.sampler.choose(allowed, self.prompt, self.output), logits)

    def extend_by_best(self, token_id: int, logit: float) -> Delta:
        """The same where `best_of` is asked for: by the token that is the best, and its logit.

        Raises:
            NotFinite: the logits hold a NaN, or nothing may be chosen.
        """
        return self._take_up(confirm(token_id, logit), NO_LOGITS)

    def _take_up(self, token_id: int, logits: Floats) -> Delta:
        if token_id in self._eog_ids:
            self.end_logprobs = self._details(logits, token_id)
            return self._finish("stop", "")
        if self.grammar is not None:
            self.grammar.accept(token_id)
        self._ids[self._length] = token_id
        self._length += 1
        details = self._details(logits, token_id)
        if details is not None:
            self.logprobs.append(details)
        text, hit = self._stop.feed(self._detokenizer.feed(token_id))
        if hit:
            self.finish_reason = "stop"
            return self._delta(text, token_id, details)
        if self.grammar is not None and self.grammar.is_over:
            return self._finish("stop", text, token_id, details)
        if self._length == self.num_prompt + self.max_output:
            return self._finish("length", text, token_id, details)
        return self._delta(text, token_id, details)

    def end_unanswered(self) -> Delta:
        """The prompt was read, and no more is wanted."""
        return self._finish("length", "")

    def cancel(self) -> None:
        """End here; text that was held back as a possible stop string becomes part of the answer."""
        if self.finish_reason is None:
            self._finish("cancelled", "")

    def _finish(
        self,
        reason: FinishReason,
        text: str,
        token_id: int | None = None,
        details: TokenLogprobs | None = None,
    ) -> Delta:
        held, hit = self._stop.feed(self._detokenizer.flush())
        self.finish_reason = "stop" if hit else reason
        rest = "" if hit else self._stop.flush()
        return self._delta(text + held + rest, token_id, details)

    def _delta(self, text: str, token_id: int | None, details: TokenLogprobs | None) -> Delta:
        self.text += text
        return Delta(text, token_id, details, self.finish_reason)

    def _details(self, logits: Floats, token_id: int) -> TokenLogprobs | None:
        """How likely a token was, where that is asked for."""
        wanted = self.sampler.params.logprobs
        return None if wanted is None else logprobs(logits, token_id, wanted)


def check_ids(params: SamplingParams, vocab_size: int) -> None:
    """Refuse biases on tokens that this model does not have."""
    for token_id in params.logit_bias or {}:
        if token_id >= vocab_size:
            raise UsageError(
                "logit_bias names a token that the model does not have",
                token_id=token_id,
                vocab_size=vocab_size,
            )


def max_output(num_prompt: int, max_tokens: int | None, capacity: int) -> int:
    """How many tokens the answer may have."""
    if num_prompt == 0:
        raise UsageError("the prompt is empty", "a model needs at least one token to continue")
    wanted = 1 if max_tokens is None else max_tokens
    if num_prompt + wanted > capacity:
        raise ContextOverflow(
            "the context is too short",
            "prompt and answer share it, and nothing is ever truncated",
            "shorten the prompt, lower max_tokens, or raise ctx",
            prompt_tokens=num_prompt,
            max_tokens=wanted,
            ctx=capacity,
        )
    return capacity - num_prompt if max_tokens is None else max_tokens
