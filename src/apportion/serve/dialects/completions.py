"""OpenAI's plain completions: https://platform.openai.com/docs/api-reference/completions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apportion.engine.completion import Completion, Delta, TokenLogprobs
from apportion.engine.openai.answers import shown, text_choice, usage
from apportion.serve.dialects.writer import Frame, timings
from apportion.serve.sse import DONE, Event
from apportion.text.answer_parts import Part


class TextWriter:
    """`dialects.Writer` of plain completions."""

    end_mark: ClassVar[bytes] = DONE

    def __init__(self, frame: Frame, num_choices: int) -> None:
        self._frame = frame
        self._num_characters: dict[int, int] = {}

    def begin(self) -> Sequence[Event]:
        return ()

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        if not delta.text and delta.logprobs is None and delta.finish_reason is None:
            return ()
        reason = "stop" if delta.finish_reason == "cancelled" else delta.finish_reason
        own = {
            "index": choice,
            "text": delta.text,
            "logprobs": None if delta.logprobs is None else self._logprobs(choice, delta.logprobs),
            "finish_reason": reason,
        }
        return [(None, {**self._head(), "choices": [own]})]

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        closing: dict[str, Any] = {}
        if self._frame.include_usage:
            closing["usage"] = usage(completions, self._frame.num_prompts)
        closing |= self._extra(completions)
        return [(None, {**self._head(), "choices": [], **closing})] if closing else []

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        choices = [
            text_choice(place, answer, self._frame.tokenizer) for place, answer in enumerate(completions)
        ]
        spent = usage(completions, self._frame.num_prompts)
        return {**self._head(), "choices": choices, "usage": spent, **self._extra(completions)}

    def _head(self) -> dict[str, Any]:
        frame = self._frame
        return {
            "id": frame.answer_id,
            "object": "text_completion",
            "created": frame.created,
            "model": frame.model,
        }

    def _logprobs(self, choice: int, one: TokenLogprobs) -> dict[str, Any]:
        tokenizer = self._frame.tokenizer
        token = shown(one.chosen.token_id, tokenizer)
        offset = self._num_characters.get(choice, 0)
        self._num_characters[choice] = offset + len(token)
        return {
            "tokens": [token],
            "token_logprobs": [one.chosen.logprob],
            "top_logprobs": [{shown(top.token_id, tokenizer): top.logprob for top in one.top}],
            "text_offset": [offset],
        }

    def _extra(self, completions: Sequence[Completion]) -> dict[str, Any]:
        return {"x_apportion": {"timings": timings(completions)}} if self._frame.include_timings else {}
