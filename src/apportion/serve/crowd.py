"""Connections that are open: how many there may be, in all and from one address."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from apportion.serve.access import is_loopback
from apportion.serve.limits import Limits


@dataclass(slots=True)
class TransportCounts:
    """What happened to connections since the server started.

    Attributes:
        turned_away: there were too many, in all or from their address.
        malformed: what came was not HTTP, or its head was too large.
        late: a request did not arrive in time.
        cut_off: an answer was not read in time.
    """

    accepted: int = 0
    turned_away: int = 0
    malformed: int = 0
    late: int = 0
    cut_off: int = 0


class Crowd:
    """Who is connected. Addresses of this machine count only towards the whole: behind a proxy everybody
    comes from one of them.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.counts = TransportCounts()
        self._by_address: Counter[str] = Counter()
        self._num_parting = 0

    def __len__(self) -> int:
        return self._by_address.total()

    def enter(self, address: str) -> bool:
        """Count a connection, if there is room for it."""
        crowded = self._by_address[address] >= self.limits.connections_per_ip and not is_loopback(address)
        if crowded or len(self) >= self.limits.connections:
            self.counts.turned_away += 1
            return False
        self._by_address[address] += 1
        self.counts.accepted += 1
        return True

    def begin_parting(self) -> bool:
        """Count a connection that was turned away; whether there is time to let it read why."""
        self._num_parting += 1
        return self._num_parting <= self.limits.connections // 4

    def end_parting(self) -> None:
        self._num_parting -= 1

    def leave(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]
