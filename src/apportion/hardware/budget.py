"""Budgets of memory as people write them: `4GiB`, `50%`, `auto`."""

from __future__ import annotations

import re

from apportion.core.errors import UsageError
from apportion.core.units import MiB, format_bytes, parse_bytes
from apportion.hardware.memory import MemoryLimits

AUTO = "auto"
MARGIN_SHARE = 16  # `auto` leaves this part of what is free to others
MIN_MARGIN_NBYTES = 128 * MiB

_PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,6})?)\s*%\s*")
_HINT = "write a size such as 4GiB, a share such as 50%, or auto"


def parse_budget(text: str, limits: MemoryLimits, *, bounded: bool = True) -> int:
    """The bytes of RAM that `text` names: a size; a share of what this process can have at most; or `auto`,
    what is free in the container or machine now, less a margin.

    Args:
        limits: of the machine and its container.
        bounded: refuse a size that the machine or its container does not have.

    Raises:
        UsageError: it is no budget, or more than there is, or the system does not tell what there is.
    """
    if text.strip().lower() == AUTO:
        free = _told(limits.free, text)
        return max(0, free - max(free // MARGIN_SHARE, MIN_MARGIN_NBYTES))
    percent = _PERCENT.fullmatch(text)
    if percent is not None:
        share = float(percent[1])
        if not 0 < share <= 100:
            raise UsageError(f"not a budget: {text!r}", "a share lies above 0% and goes up to 100%", _HINT)
        return int(_told(limits.limit, text) * share / 100)
    try:
        nbytes = parse_bytes(text)
    except UsageError as error:
        raise UsageError(f"not a budget: {text[:40]!r}", error.why, _HINT) from None
    if bounded and limits.limit and nbytes > limits.limit:
        where = "machine" if limits.container is None else "container"
        why = f"the {where} has {format_bytes(limits.limit)}"
        raise UsageError(f"the budget {text!r} is more than there is", why, "--ram auto takes what is free")
    return nbytes


def _told(nbytes: int, text: str) -> int:
    if not nbytes:
        why = "the system does not tell how much memory there is"
        raise UsageError(f"cannot tell what {text.strip()!r} is", why, "write a size such as 4GiB")
    return nbytes
