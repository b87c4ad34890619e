"""The error tree: every error says what happened, why, with which numbers, and what to do.

One class per cause. `str(error)` is what a person reads; `error.to_dict()` is what a program reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import ClassVar, Self


class ApportionError(Exception):
    """Base of every error that apportion raises on purpose.

    Args:
        what: what happened, one clause, no trailing full stop.
        why: the reason, as far as it is known.
        hint: what the user can do about it.
        numbers: the figures behind it (bytes, counts, offsets, names), shown after the reason.

    Attributes:
        param: the field of a request that is to blame, `messages.0.content` for instance; None for none.
    """

    code: ClassVar[str] = "error"
    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, why: str = "", hint: str = "", **numbers: object) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hint = hint
        self.numbers = numbers
        self.param: str | None = None

    def about(self, param: str) -> Self:
        """This error, naming the field of a request that is to blame; the first name stays."""
        self.param = self.param or param
        return self

    def __str__(self) -> str:
        text = f"{self.what}: {self.why}" if self.why else self.what
        if self.numbers:
            text += " (" + ", ".join(f"{name}={value}" for name, value in self.numbers.items()) + ")"
        return f"{text}. Hint: {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, object]:
        """The error as one object that `json.dumps` takes as it is, whatever the numbers were."""
        return {
            "code": self.code,
            "what": self.what,
            "why": self.why,
            "hint": self.hint,
            "numbers": {name: _plain(value) for name, value in self.numbers.items()},
        }


def _plain(value: object) -> object:
    """`value` in JSON's types: NumPy numbers become Python's, what JSON has no word for becomes text."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return str(value)


class UsageError(ApportionError):
    """An argument or a setting is wrong."""

    code = "usage"
    exit_status = 2


class NotFound(ApportionError):
    """A named thing (file, model, policy, tensor) does not exist."""

    code = "not_found"


class BadFile(ApportionError):
    """A file breaks its own format; nothing of it was used."""

    code = "bad_file"


class Truncated(BadFile):
    """A file ends before what its header promises."""

    code = "truncated"


class Unsupported(ApportionError):
    """Well-formed, but not something that this version reads or runs."""

    code = "unsupported"


class LimitExceeded(ApportionError):
    """A stated limit (size, count, time, depth) was passed."""

    code = "limit_exceeded"


class DoesNotFit(ApportionError):
    """A claim on memory is larger than what is left."""

    code = "does_not_fit"


class ContextOverflow(ApportionError):
    """The prompt and what was asked for are longer than the context; nothing is ever truncated."""

    code = "context_overflow"


class NotFinite(ApportionError):
    """A computation gave NaN or infinity where a number is needed."""

    code = "not_finite"


class TemplateError(ApportionError):
    """A chat template failed, refused its input, or broke a limit."""

    code = "template"


class SourceError(ApportionError):
    """A model could not be obtained (network, hub, package index)."""

    code = "source"


class Offline(SourceError):
    """The network would be needed, and it was forbidden."""

    code = "offline"


class DiskFault(ApportionError):
    """The operating system refused or failed a read or write."""

    code = "disk_fault"


class InUse(ApportionError):
    """Another process has what only one can have at a time."""

    code = "in_use"


class Overloaded(ApportionError):
    """More is waiting than there is room for; the same request may do later.

    Args:
        retry_after_s: when it is worth another try.
    """

    code = "overloaded"

    def __init__(
        self, what: str, why: str = "", hint: str = "", *, retry_after_s: int, **numbers: object
    ) -> None:
        super().__init__(what, why, hint, retry_after_s=retry_after_s, **numbers)
        self.retry_after_s = retry_after_s


class BrokenOff(ApportionError):
    """A computation ended early, since nobody wants its result any more."""

    code = "broken_off"


class Refused(ApportionError):
    """Whoever asks may not have it."""

    code = "refused"


class FileChanged(DiskFault):
    """Somebody wrote to a file while it was in use; nothing that was read after that was used."""

    code = "file_changed"


class DiskStuck(DiskFault):
    """A read or write did not return in time."""

    code = "disk_stuck"


def closest(name: str, choices: Iterable[str]) -> str | None:
    """The choice that `name` was probably meant to be, if one is near enough."""
    import difflib  # only needed once something went wrong

    folded = {choice.casefold().replace("-", "_"): choice for choice in choices}
    near = difflib.get_close_matches(name.casefold().replace("-", "_"), folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else None


def unknown(
    kind: str, name: str, choices: Iterable[str], error: type[ApportionError] = NotFound
) -> ApportionError:
    """The error to raise when `name` is none of the `choices` of a `kind` ("policy", "setting").

    The hint is the closest choice, or else the list of them.
    """
    known = sorted(choices)
    near = closest(name, known)
    if near is not None:
        hint = f"did you mean {near!r}?"
    elif known:
        hint = f"choose one of: {', '.join(known)}"
    else:
        hint = ""
    return error(f"unknown {kind} {name!r}", f"no {kind} has this name", hint)
