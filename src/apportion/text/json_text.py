"""One JSON value, checked letter by letter as it arrives (RFC 8259)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

Step: TypeAlias = Callable[[str, int], int | None]
"""Takes what it can of a text from a place on, and says how far; None where it must see more."""

MAX_DEPTH = 128

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER_PART = re.compile(r"[-+.0-9eE]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_ESCAPES = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_PART_OF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_WORDS = ("true", "false", "null")


class JsonText:
    """Takes the text of a value piece by piece.

    Attributes:
        is_done: the value is complete. A number is complete only once something else follows it.
        broken: why it is no JSON; empty while it may be.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.broken = ""
        self._open: list[str] = []  # closing brackets to come
        self._step: Step = self._value
        self._word = ""  # of a number or a name, as far as it has come

    def feed(self, text: str) -> int:
        """How many of these characters belong to the value.

        The others are behind its end, behind the place where it breaks, or an escape that is cut in two and
        must be fed again with its rest.
        """
        place = 0
        while place < len(text) and not self.is_done and not self.broken:
            step = self._step(text, place)
            if step is None:
                break
            place = step
        return place

    def _value(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place == len(text):
            return place
        first = text[place]
        if first in "{[":
            if len(self._open) == MAX_DEPTH:
                return self._break("it is nested too deep", place)
            self._open.append("}" if first == "{" else "]")
            self._step = self._first_key if first == "{" else self._first_item
        elif first == '"':
            self._step = self._string
        elif first in "-0123456789":
            self._word, self._step = "", self._number
            return place
        elif first in "tfn":
            self._word, self._step = "", self._name
            return place
        else:
            return self._break(f"no value begins with {first!r}", place)
        return place + 1

    def _first_item(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place < len(text):
            self._step = self._next if text[place] == "]" else self._value
        return place

    def _first_key(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place < len(text):
            self._step = self._next if text[place] == "}" else self._key
        return place

    def _key(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place == len(text):
            return place
        if text[place] != '"':
            return self._break("a key is not in double quotes", place)
        self._step = self._key_string
        return place + 1

    def _key_string(self, text: str, place: int) -> int | None:
        return self._through_string(text, place, self._colon)

    def _string(self, text: str, place: int) -> int | None:
        return self._through_string(text, place, self._next)

    def _through_string(self, text: str, place: int, then: Step) -> int | None:
        start, place = place, _end(_PLAIN, text, place)
        if place == len(text):
            return place
        if text[place] == '"':
            self._ended(then)
            return place + 1
        escape = _ESCAPES.match(text, place)
        if escape is not None:
            return escape.end()
        if text[place] == "\\" and _PART_OF_ESCAPE.fullmatch(text, place):
            return place if place > start else None  # its rest has not come
        why = "no such escape" if text[place] == "\\" else "a string holds a control character"
        return self._break(why, place)

    def _colon(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place == len(text):
            return place
        if text[place] != ":":
            return self._break("a key has no value", place)
        self._step = self._value
        return place + 1

    def _next(self, text: str, place: int) -> int | None:
        place = self._after_space(text, place)
        if place == len(text):
            return place
        if text[place] == self._open[-1]:
            self._open.pop()
            self._ended(self._next)
        elif text[place] == ",":
            self._step = self._key if self._open[-1] == "}" else self._value
        else:
            return self._break(f"neither a comma nor {self._open[-1]} behind a value", place)
        return place + 1

    def _number(self, text: str, place: int) -> int | None:
        end = _end(_NUMBER_PART, text, place)
        self._word += text[place:end]
        if end < len(text):
            if not _NUMBER.fullmatch(self._word):
                return self._break("no such number", end)
            self._ended(self._next)
        return end

    def _name(self, text: str, place: int) -> int | None:
        self._word += text[place]
        if self._word in _WORDS:
            self._ended(self._next)
        elif not any(word.startswith(self._word) for word in _WORDS):
            return self._break("no such value", place)
        return place + 1

    def _ended(self, then: Step) -> None:
        """A string, number, name, list or object is complete."""
        self.is_done = not self._open
        self._step = then

    def _after_space(self, text: str, place: int) -> int:
        return _end(_SPACE, text, place)

    def _break(self, why: str, place: int) -> int:
        self.broken = why
        return place


def _end(pattern: re.Pattern[str], text: str, place: int) -> int:
    found = pattern.match(text, place)
    assert found is not None  # it matches nothing, too
    return found.end()
