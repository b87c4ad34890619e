"""OpenAI's chat completions: https://platform.openai.com/docs/api-reference/chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from apportion.engine.completion import Completion, Delta
from apportion.engine.openai.answers import chat_logprob, usage
from apportion.serve.dialects.writer import Frame, ours
from apportion.serve.sse import DONE, Event
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text


class ChatWriter:
    """`dialects.Writer` of chat completions."""

    end_mark: ClassVar[bytes] = DONE

    def __init__(self, frame: Frame, num_choices: int) -> None:
        self._frame = frame
        self._num_choices = num_choices
        self._called: set[int] = set()
        self._warnings: list[str] = []

    def begin(self) -> Sequence[Event]:
        return [
            self._chunk(choice, {"role": "assistant", "content": ""}) for choice in range(self._num_choices)
        ]

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        events = []
        logprobs = None
        if delta.logprobs is not None:
            logprobs = {"content": [chat_logprob(delta.logprobs, self._frame.tokenizer)]}
        for part in parts:
            fields = self._fields(choice, part)
            if fields is not None:
                events.append(self._chunk(choice, fields, logprobs))
                logprobs = None
        if logprobs is not None:  # the token's text is still held back
            events.append(self._chunk(choice, {"content": ""}, logprobs))
        if delta.finish_reason is not None:
            events.append(self._chunk(choice, {}, None, self._reason(choice, delta.finish_reason)))
        return events

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        closing: dict[str, Any] = {}
        if self._frame.include_usage:
            closing["usage"] = usage(completions, self._frame.num_prompts)
        closing |= self._extra(completions)
        return [(None, {**self._head("chat.completion.chunk"), "choices": [], **closing})] if closing else []

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        choices = [
            self._choice(place, answer, own)
            for place, (answer, own) in enumerate(zip(completions, parts, strict=True))
        ]
        spent = usage(completions, self._frame.num_prompts)
        return {
            **self._head("chat.completion"),
            "choices": choices,
            "usage": spent,
            **self._extra(completions),
        }

    def _head(self, kind: str) -> dict[str, Any]:
        frame = self._frame
        return {"id": frame.answer_id, "object": kind, "created": frame.created, "model": frame.model}

    def _chunk(
        self, choice: int, delta: dict[str, Any], logprobs: Any = None, reason: str | None = None
    ) -> Event:
        frame = self._frame
        data = {
            "id": frame.answer_id,
            "object": "chat.completion.chunk",
            "created": frame.created,
            "model": frame.model,
            "choices": [{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}],
        }
        return None, data

    def _fields(self, choice: int, part: Part) -> dict[str, Any] | None:
        """The delta that a part is."""
        match part:
            case Text(text):
                return {"content": text}
            case Reasoning(text):
                return {"reasoning_content": text}
            case CallBegins(index, call_id, name):
                self._called.add(choice)
                function = {"name": name, "arguments": ""}
                call = {"index": index, "id": call_id, "type": "function", "function": function}
                return {"tool_calls": [call]}
            case CallArguments(index, text):
                return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
            case Mismatch(_, why):
                self._warnings.append(why)
        return None

    def _choice(self, place: int, answer: Completion, parts: Sequence[Part]) -> dict[str, Any]:
        logprobs = None
        if answer.logprobs is not None:
            logprobs = {"content": [chat_logprob(one, self._frame.tokenizer) for one in answer.logprobs]}
        return {
            "index": place,
            "message": self._message(place, parts),
            "logprobs": logprobs,
            "finish_reason": self._reason(place, answer.finish_reason),
        }

    def _message(self, place: int, parts: Sequence[Part]) -> dict[str, Any]:
        text, thought, calls = "", "", dict[int, dict[str, Any]]()
        for part in parts:
            match part:
                case Text(more):
                    text += more
                case Reasoning(more):
                    thought += more
                case CallBegins(index, call_id, name):
                    self._called.add(place)
                    function = {"name": name, "arguments": ""}
                    calls[index] = {"id": call_id, "type": "function", "function": function}
                case CallArguments(index, more):
                    calls[index]["function"]["arguments"] += more
                case Mismatch(_, why):
                    self._warnings.append(why)
        message: dict[str, Any] = {"role": "assistant", "content": text or None if calls else text}
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = [*calls.values()]
        return message

    def _reason(self, choice: int, reason: str) -> str:
        if reason == "stop" and choice in self._called:
            return "tool_calls"
        return "stop" if reason == "cancelled" else reason

    def _extra(self, completions: Sequence[Completion]) -> dict[str, Any]:
        return ours(self._frame, completions, self._warnings)
