"""Tables of keys that a person may have written, taken out one by one with their types checked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

from apportion.core.errors import ApportionError, BadFile, closest
from apportion.core.units import parse_bytes

MAX_ITEMS = 1 << 13  # as many as a layer may have experts
MAX_COUNT = (1 << 63) - 1
HINTS = {"plan": "correct the file, or make a new plan with: apportion plan MODEL --out FILE"}

W = TypeVar("W", bound=str)


class CheckedTable:
    """The keys of one table. What is missing, unknown or of another type is a BadFile that names its key.

    Args:
        told: what should be a table.
        what: names the file in errors.
        path: of the table in its file, dotted; empty for the outermost.
        kind: what the file should be.
    """

    def __init__(self, told: object, what: str, path: str = "", kind: str = "plan") -> None:
        self._kind = kind
        if not isinstance(told, Mapping):
            raise no_such(kind, what, f"{path or 'it'} is not a table of keys")
        self._left = dict(told)
        self._taken: set[str] = set()
        self._what = what
        self._path = f"{path}." if path else ""

    def _take(self, key: str) -> object:
        if key not in self._left:
            near = closest(key, map(str, self._left))
            raise self._bad(
                f"the key {self._path}{key} is missing", f"is {near!r} meant to be it?" if near else ""
            )
        self._taken.add(key)
        return self._left.pop(key)

    def wrong(self, key: str, why: str) -> BadFile:
        return self._bad(f"{self._path}{key}: {why}")

    def _bad(self, why: str, hint: str = "") -> BadFile:
        return no_such(self._kind, self._what, why, hint)

    def text(self, key: str) -> str:
        value = self._take(key)
        if not isinstance(value, str):
            raise self.wrong(key, "it must be a text")
        return value

    def word(self, key: str, words: tuple[W, ...]) -> W:
        value = self.text(key)
        for word in words:
            if value == word:
                return word
        raise self.wrong(key, f"it must be one of {', '.join(words)}, not {value[:40]!r}")

    def count(self, key: str, least: int = 0) -> int:
        return self._checked_count(key, self._take(key), least)

    def counts(self, key: str) -> tuple[int, ...]:
        return tuple(self._checked_count(key, item, 0) for item in self._items(key))

    def texts(self, key: str) -> tuple[str, ...]:
        items = tuple(self._items(key))
        if not all(isinstance(item, str) for item in items):
            raise self.wrong(key, "it must be a list of texts")
        return cast("tuple[str, ...]", items)

    def size(self, key: str) -> int:
        value = self._take(key)
        if not isinstance(value, str):
            return self._checked_count(key, value, 0)
        try:
            return parse_bytes(value)
        except ApportionError as error:
            raise self.wrong(key, str(error)) from None

    def number(self, key: str) -> float:
        return self._checked_number(key, self._take(key))

    def share(self, key: str) -> float:
        value = self.number(key)
        if value > 1:
            raise self.wrong(key, "it must lie between 0 and 1")
        return value

    def numbers(self, key: str) -> tuple[float, ...]:
        return tuple(self._checked_number(key, item) for item in self._items(key))

    def pair(self, key: str) -> tuple[float, float]:
        items = self.numbers(key)
        if len(items) != 2:
            raise self.wrong(key, "it must be a list of two numbers")
        return items[0], items[1]

    def table(self, key: str) -> CheckedTable:
        return CheckedTable(self._take(key), self._what, self._path + key, self._kind)

    def require_empty(self) -> None:
        """
        Raises:
            BadFile: there are keys that nobody took.
        """
        for key in self._left:
            near = closest(str(key), self._taken)
            hint = f"did you mean {near!r}?" if near else ""
            raise self._bad(f"unknown key {self._path}{str(key)[:80]}", hint)

    def _items(self, key: str) -> Iterator[object]:
        value = self._take(key)
        if not isinstance(value, list):
            raise self.wrong(key, "it must be a list")
        if len(value) > MAX_ITEMS:
            raise self.wrong(key, f"it has {len(value)} items, {MAX_ITEMS} are the most")
        return iter(value)

    def _checked_count(self, key: str, value: object, least: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "it must be a whole number")
        if not least <= value <= MAX_COUNT:
            raise self.wrong(key, f"it must be {least} at least, and no larger than {MAX_COUNT}")
        return value

    def _checked_number(self, key: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.wrong(key, "it must be a number")
        if not 0 <= value < math.inf:
            raise self.wrong(key, "it must be a finite number, and not negative")
        return float(value)


def no_such(kind: str, what: str, why: str, hint: str = "", **numbers: object) -> BadFile:
    """The error for a file that should be a `kind` and is not."""
    return BadFile(f"{what} is no {kind}", why, hint or HINTS.get(kind, ""), **numbers)
