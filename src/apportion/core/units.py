"""Bytes and durations as people write them, read and written.

Bytes: `KiB`, `MiB`, `GiB`, `TiB` are powers of 1024 and `KB`, `MB`, `GB`, `TB` powers of 1000. A bare `K`,
`M`, `G` or `T` is read as a power of 1024, as container runtimes and service managers read memory limits. A
bare number is bytes. Case does not matter, and a space may stand before the unit.

Durations: `d`, `h`, `m` or `min`, `s`, `ms`, `us` and `ns`, one after the other from large to small
(`1h30m`). A bare number is seconds.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from apportion.core.errors import UsageError

KiB = 1024
MiB = 1024**2
GiB = 1024**3
TiB = 1024**4

MAX_BYTES = 2**63 - 1
MAX_SECONDS = 100 * 365 * 86_400.0

_MAX_TEXT = 40  # no honest size is longer; bounds the work on hostile text
_NUMBER = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_BYTES = re.compile(rf"({_NUMBER})\s*([a-z]*)", re.IGNORECASE)
_DURATION_PART = re.compile(rf"\s*({_NUMBER})\s*([a-zµ]*)", re.IGNORECASE)

_BYTE_UNITS = {"": 1, "b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTE_UNITS[f"{_letter}ib"] = _BYTE_UNITS[_letter] = 1024**_power
    _BYTE_UNITS[f"{_letter}b"] = 1000**_power

_TIME_UNITS = {
    "d": Decimal(86_400),
    "h": Decimal(3_600),
    "m": Decimal(60),
    "s": Decimal(1),
    "ms": Decimal("1e-3"),
    "us": Decimal("1e-6"),
    "ns": Decimal("1e-9"),
}
_TIME_ALIASES = {
    "": "s",
    "min": "m",
    "sec": "s",
    "hour": "h",
    "hours": "h",
    "day": "d",
    "days": "d",
    "µs": "us",
}

_BYTES_HINT = "write a size such as 4GiB, 512 MB or 1.5G (G = GiB)"
_DURATION_HINT = "write a duration such as 30s, 250ms or 1h30m"


def parse_bytes(text: str) -> int:
    """The number of bytes that `text` names; a fraction of a byte is dropped, so a budget never grows.

    Raises:
        UsageError: not a size, negative, or past 2^63 - 1.
    """
    match = _BYTES.fullmatch(text.strip()) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise _bad("size", text, _BYTES_HINT)
    unit = _BYTE_UNITS.get(match[2].lower())
    if unit is None:
        raise UsageError(f"unknown unit {match[2]!r} in the size {text!r}", hint=_BYTES_HINT)
    nbytes = int(Decimal(match[1]) * unit)
    if nbytes > MAX_BYTES:
        raise UsageError(f"the size {text!r} is too large", f"at most {MAX_BYTES} bytes", _BYTES_HINT)
    return nbytes


def format_bytes(nbytes: int) -> str:
    """`nbytes` with three significant digits in a binary unit: `93.8 MiB`; `parse_bytes` reads it back."""
    sign, value = ("-", -nbytes) if nbytes < 0 else ("", nbytes)
    if value < 1000:
        return f"{sign}{value} B"
    units = ((KiB, "KiB"), (MiB, "MiB"), (GiB, "GiB"))
    unit, name = next((pair for pair in units if value < 999.5 * pair[0]), (TiB, "TiB"))
    return f"{sign}{three_digits(value / unit)} {name}"


def parse_duration(text: str) -> float:
    """The seconds that `text` names.

    Raises:
        UsageError: not a duration, negative, units out of order, or past 100 years.
    """
    parts = _duration_parts(text)
    if parts is None:
        raise _bad("duration", text, _DURATION_HINT)
    total, last_unit = Decimal(0), Decimal("Infinity")
    for number, name in parts:
        unit = _TIME_UNITS.get(_TIME_ALIASES.get(name, name))
        if unit is None:
            raise UsageError(f"unknown unit {name!r} in the duration {text!r}", hint=_DURATION_HINT)
        if unit >= last_unit:
            raise UsageError(f"not a duration: {text!r}", "units go from large to small", _DURATION_HINT)
        total, last_unit = total + Decimal(number) * unit, unit
    if total > MAX_SECONDS:
        raise UsageError(f"the duration {text!r} is too long", "at most 100 years", _DURATION_HINT)
    return float(total)


def format_duration(seconds: float) -> str:
    """`seconds` as short text: `250ms`, `1.5s`, `1m30s`, `2h5m`; `parse_duration` reads it back."""
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if not math.isfinite(seconds):
        return "never" if seconds > 0 else "unknown"
    for name, unit in (("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * unit:
            return f"{three_digits(seconds / unit)}{name}" if seconds else "0s"
    return f"{three_digits(seconds)}s" if seconds < 59.95 else _clock_text(round(seconds))


def _clock_text(seconds: int) -> str:
    """Whole seconds in the two largest units."""
    parts = []
    for name, unit in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, unit)
        parts.append((count, name))
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return "".join(f"{count}{name}" for count, name in parts[first : first + 2] if count)


def three_digits(value: float) -> str:
    """A number that is not negative with about three significant digits: `0.12`, `9.1`, `14.8`, `1594`."""
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if decimals else text


def _duration_parts(text: str) -> list[tuple[str, str]] | None:
    """(number, unit) of each part, or None for any other text. Only a lone number has no unit."""
    if len(text) > _MAX_TEXT:
        return None
    text, position, parts = text.strip(), 0, []
    while position < len(text):
        match = _DURATION_PART.match(text, position)
        if match is None:
            return None
        parts.append((match[1], match[2].lower()))
        position = match.end()
    if not parts or (len(parts) > 1 and any(not unit for _, unit in parts)):
        return None
    return parts


def _bad(kind: str, text: str, hint: str) -> UsageError:
    shown = text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."
    negative = shown.strip().startswith("-")
    return UsageError(f"not a {kind}: {shown!r}", f"a {kind} is never negative" if negative else "", hint)
