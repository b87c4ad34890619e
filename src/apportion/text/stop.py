"""Stop strings: found across token borders, with nothing shown that might be the beginning of one."""

from __future__ import annotations

from collections.abc import Iterable

from apportion.core.errors import LimitExceeded, UsageError

MAX_STOPS = 16
MAX_STOP_BYTES = 256


class StopStrings:
    """Watches a stream of text for the first of several stop strings.

    Raises:
        UsageError: a stop string is empty or not a text.
        LimitExceeded: more than 16 of them, or one longer than 256 bytes.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        self._stops = tuple(dict.fromkeys(_checked(stops)))
        self._held = ""
        self.hit: str | None = None  # the stop string that was found

    def feed(self, delta: str) -> tuple[str, bool]:
        """Text that is safe to show, and whether a stop string was found; from then on nothing more is shown.

        Where several match, the one that begins first wins, and of those the longest that has arrived.
        """
        if self.hit is not None:
            return "", True
        if not self._stops:
            return delta, False
        text = self._held + delta
        found = min(
            ((place, -len(stop), stop) for stop in self._stops if (place := text.find(stop)) >= 0),
            default=None,
        )
        if found is not None:
            self._held, self.hit = "", found[2]
            return text[: found[0]], True
        keep = self._open_suffix(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep], False

    def flush(self) -> str:
        """What was held back, at the end of the text: no stop string came of it."""
        held, self._held = self._held, ""
        return held

    def _open_suffix(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0


def _checked(stops: Iterable[str]) -> list[str]:
    if isinstance(stops, str):
        raise UsageError(
            "stop strings are a list of texts, not one text", hint='write ["' + stops[:32] + '"]'
        )
    found = list(stops)
    if len(found) > MAX_STOPS:
        raise LimitExceeded("too many stop strings", found=len(found), limit=MAX_STOPS)
    for stop in found:
        if not isinstance(stop, str) or not stop:
            raise UsageError(
                "a stop string is empty or not a text", "it would stop at once", found=repr(stop)
            )
        size = len(stop.encode("utf-8", "surrogatepass"))
        if size > MAX_STOP_BYTES:
            raise LimitExceeded("a stop string is too long", nbytes=size, limit=MAX_STOP_BYTES)
    return found
