"""OpenAI's plain completions: https://platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apportion.engine.completion import Completion, Delta, TokenLogprobs
from apportion.engine.openai.answers import shown, usage
from apportion.serve.dialects.writer import Echo, Frame, ours
from apportion.serve.sse import DONE, Event
from apportion.text.answer_parts import Part


class TextWriter:
    """`dialects.Writer` of plain completions."""

    end_mark: ClassVar[bytes] = DONE

    def __init__(self, frame: Frame, num_choices: int) -> None:
        self._frame = frame
        self._num_characters: dict[int, int] = {}
        self._to_echo = set(range(num_choices)) if frame.echo is not None else set()

    def begin(self) -> Sequence[Event]:
        return ()

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        events = self._echoed(choice)
        if delta.text or delta.logprobs is not None or delta.finish_reason is not None:
            logprobs = None
            if delta.logprobs is not None and delta.token_id is not None:
                logprobs = self._logprobs(choice, [delta.token_id], [delta.logprobs])
            reason = "stop" if delta.finish_reason == "cancelled" else delta.finish_reason
            events.append(self._chunk(choice, delta.text, logprobs, reason))
        return events

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        closing: dict[str, Any] = {}
        if self._frame.include_usage:
            closing["usage"] = usage(completions, self._frame.num_prompts)
        closing |= ours(self._frame, completions)
        return [(None, {**self._head(), "choices": [], **closing})] if closing else []

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        choices = [self._choice(place, answer) for place, answer in enumerate(completions)]
        spent = usage(completions, self._frame.num_prompts)
        return {**self._head(), "choices": choices, "usage": spent, **ours(self._frame, completions)}

    def _head(self) -> dict[str, Any]:
        frame = self._frame
        return {
            "id": frame.answer_id,
            "object": "text_completion",
            "created": frame.created,
            "model": frame.model,
        }

    def _chunk(self, choice: int, text: str, logprobs: Any, reason: str | None) -> Event:
        own = {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": reason}
        return None, {**self._head(), "choices": [own]}

    def _echoed(self, choice: int) -> list[Event]:
        """The prompt, before the first of a choice's answer."""
        if choice not in self._to_echo:
            return []
        self._to_echo.remove(choice)
        echo = self._echo(choice)
        logprobs = None if echo.logprobs is None else self._logprobs(choice, echo.ids, echo.logprobs)
        return [self._chunk(choice, echo.text, logprobs, None)]

    def _choice(self, place: int, answer: Completion) -> dict[str, Any]:
        echo = Echo("", (), ()) if self._frame.echo is None else self._echo(place)
        logprobs = None
        if answer.logprobs is not None:
            ids, told = [*echo.ids, *answer.token_ids], [*(echo.logprobs or ()), *answer.logprobs]
            if echo.logprobs and answer.end_logprobs is not None:
                # Who asks for an echo and one token, for the prompt's sake, cuts off the last one.
                ids.append(answer.end_logprobs.chosen.token_id)
                told.append(answer.end_logprobs)
            logprobs = self._logprobs(place, ids, told)
        return {
            "index": place,
            "text": echo.text + answer.text,
            "logprobs": logprobs,
            "finish_reason": "stop" if answer.finish_reason == "cancelled" else answer.finish_reason,
        }

    def _echo(self, choice: int) -> Echo:
        assert self._frame.echo is not None
        return self._frame.echo(choice)

    def _logprobs(
        self, choice: int, ids: Sequence[int], told: Sequence[TokenLogprobs | None]
    ) -> dict[str, Any]:
        """Of more tokens of a choice; where each begins counts from the choice's first."""
        tokenizer = self._frame.tokenizer
        tokens = [shown(token, tokenizer) for token in ids]
        offsets = []
        for token in tokens:
            offsets.append(self._num_characters.get(choice, 0))
            self._num_characters[choice] = offsets[-1] + len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [None if one is None else one.chosen.logprob for one in told],
            "top_logprobs": [
                None if one is None else {shown(top.token_id, tokenizer): top.logprob for top in one.top}
                for one in told
            ],
            "text_offset": offsets,
        }
