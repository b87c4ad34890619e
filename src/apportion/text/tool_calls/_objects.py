"""Calls that are written as JSON objects with a name and arguments, in whichever order."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from apportion.text.answer_text import AnswerText, NotACall, Reading
from apportion.text.json_text import JsonText
from apportion.text.tool_calls import ToolFormat, Tools

ARGUMENTS = ("arguments", "parameters")
OTHERS = ("type", "function", "id")


class CallObject:
    """Reads one such object. The call begins as soon as its name is known, and its arguments are passed on
    while they are written.

    Args:
        is_marked: a mark before it tells that it is a call; without one, an object may be text.
    """

    def __init__(
        self, answer: AnswerText, tools: Tools, tool_format: ToolFormat, is_marked: bool = True
    ) -> None:
        self._answer = answer
        self._tools = tools
        self._format = tool_format
        self._is_marked = is_marked
        self._name = ""
        self._call_id = ""
        self._held: str | None = None  # arguments that stand before the name
        self._has_begun = False

    def read(self) -> Reading[None]:
        """
        Raises:
            NotACall
        """
        yield from self._members()
        if not self._has_begun:
            self._check_name()
            self._begin()
            self._answer.arguments("{}" if self._held is None else self._held)
        self._answer.mark()

    def _members(self) -> Reading[None]:
        answer = self._answer
        yield from self._through("{")
        while True:
            yield from answer.skip_space()
            if (yield from answer.sees("}")):
                break
            key = yield from self._string("a key")
            yield from answer.skip_space()
            yield from self._through(":")
            yield from answer.skip_space()
            yield from self._member(key)
            yield from answer.skip_space()
            if not (yield from answer.sees(",")):
                break
            answer.take(1)
        yield from self._through("}")

    def _member(self, key: str) -> Reading[None]:
        answer = self._answer
        if key == "name" or (key == "function" and (yield from answer.sees('"'))):
            self._name = yield from self._string("its name")
            if self._is_marked:
                self._check_name()
        elif key in ARGUMENTS:
            yield from self._arguments()
        elif key == "function" and (yield from answer.sees("{")):
            yield from self._members()
        elif key == "id" and (yield from answer.sees('"')):
            self._call_id = yield from self._string("its id")
        elif key in OTHERS or self._is_marked:
            yield from answer.json(_ignore)
        else:
            raise NotACall("")

    def _arguments(self) -> Reading[None]:
        answer = self._answer
        if self._has_begun or self._held is not None:
            raise NotACall("it has arguments twice")
        if self._name:
            self._check_name()
        if (yield from answer.sees("{")):
            if self._name:
                self._begin()
                yield from answer.json(answer.arguments)
                answer.mark()  # what was read before has gone out
                return
            held: list[str] = []
            yield from answer.json(held.append)
            self._held = "".join(held)
        elif (yield from answer.sees('"')):
            self._held = object_text((yield from self._string("its arguments")))
        elif (yield from answer.sees("null")):
            answer.take(len("null"))
            self._held = "{}"
        else:
            raise self._refusal("its arguments are no object")

    def _begin(self) -> None:
        self._has_begun = True
        self._answer.begin_call(self._name, self._call_id or self._format.new_call_id())

    def _check_name(self) -> None:
        if not self._name:
            raise self._refusal("it has no name")
        if self._name not in self._tools:
            raise no_such_tool(self._name)

    def _string(self, what: str) -> Reading[str]:
        if not (yield from self._answer.sees('"')):
            raise self._refusal(f"{what} is no text in double quotes")
        pieces: list[str] = []
        yield from self._answer.json(pieces.append)
        return str(json.loads("".join(pieces)))

    def _through(self, mark: str) -> Reading[None]:
        if not (yield from self._answer.sees(mark)):
            raise self._refusal(f"its JSON is {'cut off' if self._answer.is_over else 'malformed'}")
        self._answer.take(len(mark))

    def _refusal(self, why: str) -> NotACall:
        """An object without a mark before it and a name in it is no call that failed, but text."""
        return NotACall(why if self._is_marked or self._name else "")


def read_list(
    answer: AnswerText, read: Callable[[], Reading[None]], separator: str = ",", end: str = "]"
) -> Reading[None]:
    """Calls one after another, up to and with the end of the list."""
    while True:
        yield from answer.skip_space()
        yield from read()
        yield from answer.skip_space()
        if (yield from answer.sees(end)):
            answer.take(len(end))
            return
        if not (yield from answer.sees(separator)):
            raise NotACall(f"the list of calls {'is cut off' if answer.is_over else 'is malformed'}")
        answer.take(len(separator))


def object_text(text: str) -> str:
    """JSON of an object that stood in a text of its own."""
    value = JsonText()
    if value.feed(text) < len(text.rstrip()) or not value.is_done or not text.lstrip().startswith("{"):
        raise NotACall("its arguments are a text that is no JSON object")
    return text.strip()


def begin_named(answer: AnswerText, name: str, tools: Tools, call_id: str) -> None:
    """A call whose name stands before its arguments.

    Raises:
        NotACall: no tool has the name.
    """
    if name not in tools:
        raise no_such_tool(name)
    answer.begin_call(name, call_id)


def read_arguments(answer: AnswerText) -> Reading[None]:
    """The arguments of a call that has begun.

    Raises:
        NotACall: they are no JSON object.
    """
    yield from answer.skip_space()
    if not (yield from answer.sees("{")):
        raise NotACall("it is cut off" if answer.is_over else "its arguments are no object")
    yield from answer.json(answer.arguments)
    answer.mark()  # what was read before has gone out


def no_such_tool(name: str) -> NotACall:
    return NotACall(f"no tool is called {name[:64]!r}")


def _ignore(text: str) -> Any:
    """A member that says nothing about the call."""
