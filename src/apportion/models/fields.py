"""Typed access to a checkpoint's metadata: every value is checked, and every complaint names its key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from apportion.core.errors import BadFile, Unsupported

T = TypeVar("T")
MAX_COUNT = 1 << 31


class Fields:
    """A mapping of untrusted values under a common key prefix.

    Each getter takes the names that a value is known under and returns the first that is there. A value of
    None counts as absent. Without a default, an absent value is an error.
    """

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def has(self, *names: str) -> bool:
        """Whether one of the names has a value."""
        return self._find(names)[1] is not None

    def count(self, *names: str, default: int | None = None, least: int = 1, most: int = MAX_COUNT) -> int:
        """A whole number from `least` to `most`; one list of equal numbers (per layer) counts as one
        number.
        """
        key, value = self._find(names)
        if value is None:
            return self._absent(key, default)
        value = self._one_of_equal(key, value)
        if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
            raise self._bad(key, value, "must be a whole number")
        if not least <= value <= most:
            raise self._bad(key, value, f"must lie between {least} and {most}")
        return int(value)

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        key, value = self._find(names)
        if value is None:
            return self._absent(key, default)
        value = self._one_of_equal(key, value)
        number = _as_float(value)
        if number is None:
            raise self._bad(key, value, "must be a number")
        if not math.isfinite(number):
            raise self._bad(key, value, "must be finite")
        return number

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """True or false."""
        key, value = self._find(names)
        if value is None:
            return self._absent(key, default)
        if not isinstance(value, bool | np.bool_):
            raise self._bad(key, value, "must be true or false")
        return bool(value)

    def text(self, *names: str, default: str | None = None) -> str:
        """A string."""
        key, value = self._find(names)
        if value is None:
            return self._absent(key, default)
        if not isinstance(value, str):
            raise self._bad(key, value, "must be a string")
        return value

    def items(self, *names: str) -> list[Any]:
        """A list; an empty one when the value is absent."""
        key, value = self._find(names)
        if value is None:
            return []
        if isinstance(value, np.ndarray):
            return list(value.tolist())
        if not isinstance(value, list | tuple):
            raise self._bad(key, value, "must be a list")
        return list(value)

    def whole_numbers(self, *names: str) -> set[int]:
        """A list of whole numbers; empty when the value is absent."""
        found = self.items(*names)
        if not all(isinstance(item, int) for item in found):
            raise self._bad(self._find(names)[0], "a list", "must hold only whole numbers")
        return set(found)

    def numbers(self, *names: str) -> tuple[float, ...]:
        """A list of numbers; empty when the value is absent."""
        found = [_as_float(item) for item in self.items(*names)]
        if None in found:
            raise self._bad(self._find(names)[0], "a list", "must hold only numbers")
        return tuple(number for number in found if number is not None)

    def section(self, *names: str) -> Fields:
        """The mapping under a key; an empty one when it is absent."""
        key, value = self._find(names)
        if value is None:
            return Fields({}, f"{key}.")
        if not isinstance(value, Mapping):
            raise self._bad(key, value, "must be an object")
        return _Section(value, f"{key}.")

    def raw(self, name: str) -> Any:
        """Whatever is there, unchecked; None when nothing is."""
        return self._get(name)

    def _get(self, name: str) -> Any:
        return self._values.get(self._prefix + name)

    def _key(self, name: str) -> str:
        return self._prefix + name

    def _find(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            value = self._get(name)
            if value is not None:
                return self._key(name), value
        return self._key(names[0]), None

    def _absent(self, key: str, default: T | None) -> T:
        if default is None:
            raise BadFile(f"the model's configuration lacks {key!r}", hint="obtain the model anew", key=key)
        return default

    def _one_of_equal(self, key: str, value: Any) -> Any:
        if not isinstance(value, list | tuple | np.ndarray):
            return value
        if len(value) == 0:
            raise self._bad(key, "[]", "must not be empty")
        if any(item != value[0] for item in value):
            raise Unsupported(
                f"{key!r} differs from layer to layer", "layers of unequal shape are not run", key=key
            )
        return value[0]

    def _bad(self, key: str, value: object, why: str) -> BadFile:
        shown = str(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return BadFile(f"{key!r} {why}", hint="obtain the model anew", key=key, value=shown)


class _Section(Fields):
    """An object inside the metadata: the prefix is for messages only."""

    def _get(self, name: str) -> Any:
        return self._values.get(name)


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer beyond float's range
        return math.inf
