"""A circuit breaker: what fails again and again is left alone for a while, so that it costs nothing more."""

from __future__ import annotations

import threading

from apportion.core.clock import Clock


class Breaker:
    """Opens after `most_failures` in a row. After `rest_s` it lets one call through, whose outcome decides.
    Safe to use from several threads.

    Attributes:
        num_breaks: how often it has opened.
    """

    def __init__(self, clock: Clock, most_failures: int = 3, rest_s: float = 30.0) -> None:
        self._clock = clock
        self._most_failures = most_failures
        self._rest_s = rest_s
        self._failures = 0
        self._closed_again_at: float | None = None
        self._lock = threading.Lock()
        self.num_breaks = 0

    @property
    def is_open(self) -> bool:
        """Whether calls are refused just now."""
        until = self._closed_again_at
        return until is not None and self._clock.now() < until

    def allows(self) -> bool:
        """Whether this call may be made. Whoever is allowed to says afterwards how it went."""
        with self._lock:
            if self.is_open:
                return False
            if self._closed_again_at is not None:  # this one tries; others wait for its outcome
                self._closed_again_at = self._clock.now() + self._rest_s
            return True

    def succeeded(self) -> None:
        with self._lock:
            self._failures = 0
            self._closed_again_at = None

    def failed(self) -> None:
        with self._lock:
            self._failures += 1
            if self._failures >= self._most_failures:
                self.num_breaks += self._closed_again_at is None
                self._closed_again_at = self._clock.now() + self._rest_s
