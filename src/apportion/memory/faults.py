"""The reader's fault port: which of its calls go wrong, and how. For tests and simulations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadFault:
    """What happens to `count` calls from number `call` on, counted from 0 over all files in the order in
    which the system is called.

    Args:
        errno: the call is not made and fails with it; 0 for none.
        short: the call is made for half of its bytes.
        delay_s: the call is made this much later: slow, or stuck when it is longer than `stuck_after_s`.
    """

    call: int
    count: int = 1
    errno: int = 0
    short: bool = False
    delay_s: float = 0.0

    @property
    def native(self) -> tuple[int, int, int, bool, float]:
        """The same for the core."""
        return (self.call, self.count, self.errno, self.short, self.delay_s)
