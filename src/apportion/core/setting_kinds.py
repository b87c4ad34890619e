"""Kinds of settings: how a value is read from text (environment, flags) and from TOML's own types."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What values a setting has.

    Attributes:
        words: what to write, for messages and docs.
        read: (raw value, folder that relative paths start from) -> value; ValueError says why not.
    """

    words: str
    read: Callable[[object, Path], T_co]


def whole_number(low: int, high: int) -> Kind[int]:
    """An integer from `low` to `high`."""

    def read(raw: object, base: Path) -> int:
        if isinstance(raw, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,18}\s*", raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool):
            raise ValueError("it is not a whole number")
        if not low <= raw <= high:
            raise ValueError("it is out of range")
        return raw

    return Kind(f"a whole number from {low} to {high}", read)


def _read_switch(raw: object, base: Path) -> bool:
    if isinstance(raw, bool):
        return raw
    text = str(raw).strip().lower()
    if not isinstance(raw, str) or text not in _TRUE + _FALSE:
        raise ValueError("it is neither true nor false")
    return text in _TRUE


SWITCH: Kind[bool] = Kind("true or false (also 1, yes, on, 0, no, off)", _read_switch)


def folder() -> Kind[Path]:
    """A folder's path, which need not exist; `~` is the home folder."""

    def read(raw: object, base: Path) -> Path:
        if not isinstance(raw, str | Path) or not str(raw).strip() or "\0" in str(raw):
            raise ValueError("it is not a path")
        try:
            return base / Path(raw).expanduser()
        except RuntimeError as error:
            raise ValueError("there is no such home folder") from error

    return Kind("a folder", read)


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Words that nobody is shown."""

    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "set" if self.words else "unset"

    __repr__ = __str__


def secret() -> Kind[Secret]:
    """Words, separated by commas or as a list. Whatever is wrong with them is found where they are used."""

    def read(raw: object, base: Path) -> Secret:
        parts = raw if isinstance(raw, list) else str(raw).split(",")
        return Secret(tuple(word for word in (str(part).strip() for part in parts) if word))

    return Kind("keys, separated by commas", read)


def word() -> Kind[str]:
    """A short name, as kernels and devices have."""

    def read(raw: object, base: Path) -> str:
        if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,31}", raw.strip()):
            raise ValueError("it is not a name")
        return raw.strip().lower()

    return Kind("a name", read)
