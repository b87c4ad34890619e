"""OpenAI's responses: https://platform.openai.com/docs/api-reference/responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from uuid import uuid4

from apportion.engine.completion import Completion, Delta
from apportion.engine.openai.answers import chat_logprob, usage
from apportion.serve.dialects.writer import Frame, ours
from apportion.serve.sse import Event
from apportion.text.answer_parts import CallArguments, CallBegins, Mismatch, Part, Reasoning, Text


class ResponsesWriter:
    """`dialects.Writer` of responses: a list of items, of which one at a time is open.

    Args:
        asked: the fields of the request that an answer repeats.
    """

    end_mark: ClassVar[bytes] = b""

    def __init__(self, frame: Frame, num_choices: int, asked: Mapping[str, Any]) -> None:
        self._frame = frame
        self._asked = asked
        self._items: list[dict[str, Any]] = []
        self._is_open = False
        self._number = 0
        self._warnings: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> Sequence[Event]:
        response = self._response("in_progress")
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def on(self, choice: int, delta: Delta, parts: Sequence[Part]) -> Sequence[Event]:
        if delta.logprobs is not None:  # they wait for text, which may be held back
            self._logprobs.append(chat_logprob(delta.logprobs, self._frame.tokenizer))
        return [event for part in parts for event in self._on_part(part)]

    def end(self, completions: Sequence[Completion]) -> Sequence[Event]:
        events = self._close("completed" if completions[0].finish_reason == "stop" else "incomplete")
        response = self._finished(completions)
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def body(self, completions: Sequence[Completion], parts: Sequence[Sequence[Part]]) -> dict[str, Any]:
        told = completions[0].logprobs or ()
        self._logprobs = [chat_logprob(one, self._frame.tokenizer) for one in told]
        for part in parts[0]:
            self._on_part(part)
        self._close("completed" if completions[0].finish_reason == "stop" else "incomplete")
        return self._finished(completions)

    # --- items ---

    def _on_part(self, part: Part) -> list[Event]:
        match part:
            case Text(text):
                events = self._opened("message")
                logprobs, self._logprobs = self._logprobs, []
                self._last_part["text"] += text
                self._last_part["logprobs"] += logprobs
                return [*events, self._more("response.output_text.delta", text, logprobs=logprobs)]
            case Reasoning(text):
                events = self._opened("reasoning")
                self._last_part["text"] += text
                return [*events, self._more("response.reasoning_text.delta", text)]
            case CallBegins(_, call_id, name):
                return self._opened("function_call", call_id=call_id, name=name, arguments="")
            case CallArguments(_, text):
                self._items[-1]["arguments"] += text
                item = self._items[-1]
                place = {"item_id": item["id"], "output_index": len(self._items) - 1}
                return [self._event("response.function_call_arguments.delta", **place, delta=text)]
            case Mismatch(_, why):
                self._warnings.append(why)
        return []

    def _opened(self, kind: str, **fields: Any) -> list[Event]:
        """An item of a kind is open; a call always is a new one."""
        if self._is_open and self._items[-1]["type"] == kind and kind != "function_call":
            return []
        events = self._close("completed")
        self._items.append(new_item(kind, fields))
        self._is_open = True
        index = len(self._items) - 1
        events.append(
            self._event("response.output_item.added", output_index=index, item=copied(self._items[-1]))
        )
        if kind != "function_call":
            part = new_part(kind)
            self._items[-1]["content"].append(part)
            events.append(self._in_part("response.content_part.added", part=dict(part)))
        return events

    def _close(self, status: str) -> list[Event]:
        """Whatever item is open is over."""
        if not self._is_open:
            return []
        self._is_open = False
        item = self._items[-1]
        item["status"] = status
        index = len(self._items) - 1
        done = self._call_done(item, index) if item["type"] == "function_call" else self._part_done(item)
        return [*done, self._event("response.output_item.done", output_index=index, item=copied(item))]

    def _call_done(self, item: Mapping[str, Any], index: int) -> list[Event]:
        place = {"item_id": item["id"], "output_index": index, "name": item["name"]}
        return [self._event("response.function_call_arguments.done", **place, arguments=item["arguments"])]

    def _part_done(self, item: Mapping[str, Any]) -> list[Event]:
        part, is_text = self._last_part, item["type"] == "message"
        kind = "response.output_text.done" if is_text else "response.reasoning_text.done"
        fields = {"logprobs": part["logprobs"]} if is_text else {}
        return [
            self._in_part(kind, text=part["text"], **fields),
            self._in_part("response.content_part.done", part=dict(part)),
        ]

    @property
    def _last_part(self) -> dict[str, Any]:
        part = self._items[-1]["content"][-1]
        assert isinstance(part, dict)
        return part

    # --- events ---

    def _event(self, kind: str, **fields: Any) -> Event:
        number, self._number = self._number, self._number + 1
        return kind, {"type": kind, "sequence_number": number, **fields}

    def _in_part(self, kind: str, **fields: Any) -> Event:
        """An event about the only part of the last item."""
        place = {"item_id": self._items[-1]["id"], "output_index": len(self._items) - 1, "content_index": 0}
        return self._event(kind, **place, **fields)

    def _more(self, kind: str, text: str, **fields: Any) -> Event:
        return self._in_part(kind, delta=text, **fields)

    # --- the response ---

    def _finished(self, completions: Sequence[Completion]) -> dict[str, Any]:
        answer = completions[0]
        spent = usage(completions, 1)
        response = self._response("completed" if answer.finish_reason == "stop" else "incomplete")
        if answer.finish_reason == "length":
            response["incomplete_details"] = {"reason": "max_output_tokens"}
        response["usage"] = {
            "input_tokens": spent["prompt_tokens"],
            "input_tokens_details": spent["prompt_tokens_details"],
            "output_tokens": spent["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": self._num_reasoning()},
            "total_tokens": spent["total_tokens"],
        }
        return {**response, **ours(self._frame, completions, self._warnings)}

    def _num_reasoning(self) -> int:
        """Tokens of what was thought, counted from its text."""
        thoughts = [item["content"][0]["text"] for item in self._items if item["type"] == "reasoning"]
        return sum(len(self._frame.tokenizer.encode(text, add_special=False)) for text in thoughts)

    def _response(self, status: str) -> dict[str, Any]:
        return {
            "id": self._frame.answer_id,
            "object": "response",
            "created_at": self._frame.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._frame.model,
            "output": [copied(item) for item in self._items],
            **repeated(self._asked),
            "usage": None,
        }


def repeated(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer repeats of its request, and what holds where it says nothing."""
    kept: dict[str, Any] = {
        "instructions": None,
        "max_output_tokens": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "reasoning": {"effort": None, "summary": None},
        "text": {"format": {"type": "text"}},
        "user": None,
    }
    given = {name: asked[name] for name in kept if asked.get(name) is not None}
    fixed = {"previous_response_id": None, "background": False, "store": False, "truncation": "disabled"}
    return {**kept, **given, **fixed}


def new_item(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    prefix = {"message": "msg_", "reasoning": "rs_", "function_call": "fc_"}[kind]
    item: dict[str, Any] = {"id": f"{prefix}{uuid4().hex}", "type": kind, "status": "in_progress", **fields}
    if kind == "message":
        return {**item, "role": "assistant", "content": []}
    return {**item, "summary": [], "content": []} if kind == "reasoning" else item


def new_part(kind: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"type": "reasoning_text", "text": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def copied(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as it is now."""
    content = item.get("content")
    return dict(item) if content is None else {**item, "content": [dict(part) for part in content]}
