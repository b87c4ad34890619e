"""Anthropic's messages: https://docs.anthropic.com/en/api/messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from apportion.engine.completion import Completion, Delta
from apportion.serve.dialects.writer import Frame, ours
from apportion.serve.sse import Event
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text

DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}


class MessagesWriter:
    """`dialects.Writer` of messages: a list of blocks, of which one at a time is open.

    Args:
        stop: the strings that end the answer.
        tells_thinking: thoughts are told; else they are left out.
    """

    end_mark: ClassVar[bytes] = b""

    def __init__(self, frame: Frame, num_choices: int, stop: Sequence[str], tells_thinking: bool) -> None:
        self._frame = frame
        self._stop = stop
        self._tells_thinking = tells_thinking
        self._kind: str | None = None
        self._num_blocks = 0
        self._num_calls = 0
        self._warnings: list[str] = []

    def begin(self) -> Sequence[Event]:
        spent = {"input_tokens": self._frame.prompt_tokens, "output_tokens": 0, **CACHE}
        message = {**self._head(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": spent}
        return [named("message_start", message=message), named("ping")]

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        return [event for part in parts for event in self._on_part(part)]

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        events = self._close()
        if not self._num_blocks:
            events += [*self._opened("text", {"type": "text", "text": ""}), *self._close()]
        delta = self._ended(completions[0])
        told = named("message_delta", delta=delta, usage=usage(completions[0]), **self._extra(completions))
        return [*events, told, named("message_stop")]

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        blocks = self._blocks(parts[0]) or [{"type": "text", "text": ""}]
        ended = self._ended(completions[0])
        spent = usage(completions[0])
        return {**self._head(), "content": blocks, **ended, "usage": spent, **self._extra(completions)}

    # --- blocks as events ---

    def _on_part(self, part: Part) -> list[Event]:
        match part:
            case Text(text):
                return self._text("text", text)
            case Reasoning(text):
                return self._text("thinking", text) if self._tells_thinking else []
            case CallBegins(_, call_id, name):
                self._num_calls += 1
                block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
                return [*self._close(), *self._opened("tool_use", block)]
            case CallArguments(_, text):
                return [self._delta({"type": "input_json_delta", "partial_json": text})]
            case Mismatch(_, why):
                self._warnings.append(why)
        return []

    def _text(self, kind: str, text: str) -> list[Event]:
        events: list[Event] = []
        name, field = DELTAS[kind]
        if self._kind != kind:
            signature = {"signature": ""} if kind == "thinking" else {}
            events = [*self._close(), *self._opened(kind, {"type": kind, field: "", **signature})]
        return [*events, self._delta({"type": name, field: text})]

    def _opened(self, kind: str, block: Mapping[str, Any]) -> list[Event]:
        self._kind = kind
        self._num_blocks += 1
        return [named("content_block_start", index=self._num_blocks - 1, content_block=block)]

    def _delta(self, delta: Mapping[str, Any]) -> Event:
        return named("content_block_delta", index=self._num_blocks - 1, delta=delta)

    def _close(self) -> list[Event]:
        kind, self._kind = self._kind, None
        if kind is None:
            return []
        signed = [self._delta({"type": "signature_delta", "signature": ""})] if kind == "thinking" else []
        return [*signed, named("content_block_stop", index=self._num_blocks - 1)]

    # --- the message ---

    def _blocks(self, parts: Sequence[Part]) -> list[dict[str, Any]]:
        """The blocks of a whole answer."""
        blocks: list[dict[str, Any]] = []
        for part in parts:
            match part:
                case Text(text):
                    grown(blocks, "text", {"text": ""})["text"] += text
                case Reasoning(text) if self._tells_thinking:
                    grown(blocks, "thinking", {"thinking": "", "signature": ""})["thinking"] += text
                case CallBegins(_, call_id, name):
                    self._num_calls += 1
                    blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": ""})
                case CallArguments(_, text):
                    blocks[-1]["input"] += text
                case Mismatch(_, why):
                    self._warnings.append(why)
        for block in blocks:
            if block["type"] == "tool_use":
                block["input"] = arguments(block["input"])
        return blocks

    def _head(self) -> dict[str, Any]:
        frame = self._frame
        return {"id": frame.answer_id, "type": "message", "role": "assistant", "model": frame.model}

    def _ended(self, answer: Completion) -> dict[str, Any]:
        """Why the answer ended, and with which of the strings."""
        if answer.finish_reason == "length":
            return {"stop_reason": "max_tokens", "stop_sequence": None}
        if self._num_calls:
            return {"stop_reason": "tool_use", "stop_sequence": None}
        stop = stop_string(answer, self._stop, self._frame)
        return {"stop_reason": "end_turn" if stop is None else "stop_sequence", "stop_sequence": stop}

    def _extra(self, completions: Sequence[Completion]) -> dict[str, Any]:
        return ours(self._frame, completions, self._warnings)


CACHE = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}


def named(kind: str, **fields: Any) -> Event:
    return kind, {"type": kind, **fields}


def usage(answer: Completion) -> dict[str, int]:
    """Tokens read and said; those that were found in the cache are not counted as read."""
    return {
        "input_tokens": answer.prompt_tokens - answer.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.cached_tokens,
        "output_tokens": answer.output_tokens,
    }


def grown(blocks: list[dict[str, Any]], kind: str, empty: Mapping[str, Any]) -> dict[str, Any]:
    """The last block, where it is of this kind; else a new one."""
    if not blocks or blocks[-1]["type"] != kind:
        blocks.append({"type": kind, **empty})
    return blocks[-1]


def arguments(text: str) -> dict[str, Any]:
    """The arguments of a call, as an object; those that an answer's end cut off are kept as they are."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {"_raw": text}
    return value if isinstance(value, dict) else {"_raw": text}


def stop_string(answer: Completion, stop: Sequence[str], frame: Frame) -> str | None:
    """Which of the strings ended an answer: the one that its tokens hold and its text does not."""
    if not stop or not answer.token_ids:
        return None
    said = b"".join(frame.tokenizer.token_bytes(token) for token in answer.token_ids).decode(
        "utf-8", "replace"
    )
    places = [(said.find(one), one) for one in stop if one in said]
    return min(places)[1] if places else None
