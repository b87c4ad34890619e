"""The ledger: one account of every tier's bytes. What is not leased here is not allocated.

A lease may cover several kinds and tiers, and is granted whole or not at all. Leases change from one division
to another in one step, so moving bytes between tiers or kinds is never half done. Limits can be lowered while
leases are out: who subscribed is asked to give back, and nothing new is granted until the limit holds again.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeAlias

from apportion.core.claim import Claim, Kind, Tier, total_by_place
from apportion.core.errors import DoesNotFit
from apportion.core.units import format_bytes
from apportion.memory.account import Account, Demand, TierAccount

Place: TypeAlias = tuple[Tier, Kind]
GiveBack: TypeAlias = Callable[[Demand], None]


class Ledger:
    """The account of all tiers. Safe to use from several threads.

    Args:
        limits: bytes that may be leased of each tier; a tier that is not named has none.
    """

    def __init__(self, limits: Mapping[Tier, int]) -> None:
        assert all(nbytes >= 0 for nbytes in limits.values()), limits
        self._lock = threading.Lock()
        self._limits = {tier: limits.get(tier, 0) for tier in Tier}
        self._used: Counter[Place] = Counter()
        self._peaks = dict.fromkeys(Tier, 0)
        self._refusals: Counter[Place] = Counter()
        self._leases: set[Lease] = set()
        self._subscribers: list[GiveBack] = []

    def reserve(self, *claims: Claim) -> Lease:
        """A lease of all the claims.

        Raises:
            DoesNotFit: one of the tiers has not enough left; nothing was taken of any.
        """
        lease = Lease(self)
        self.rearrange({lease: claims})
        return lease

    def try_reserve(self, *claims: Claim) -> Lease | None:
        """A lease of all the claims, or None where they do not fit: for callers that can go on without."""
        try:
            return self.reserve(*claims)
        except DoesNotFit:
            return None

    def can_reserve(self, *claims: Claim) -> bool:
        """Whether the claims would fit now; another thread may take the room before they are reserved."""
        with self._lock:
            return not self._lacking(Counter(total_by_place(claims)))

    def rearrange(self, wanted: Mapping[Lease, tuple[Claim, ...]]) -> None:
        """Give each of the leases new claims in place of its old ones: all of them, or none.

        A change that takes from no tier more than it gives back is granted whatever the limits are.

        Raises:
            DoesNotFit: together they need more than is left; every lease is as it was.
        """
        totals = {lease: Counter(total_by_place(claims)) for lease, claims in wanted.items()}
        with self._lock:
            change: Counter[Place] = Counter()
            for lease, total in totals.items():
                assert lease.ledger is self, "a lease of another ledger"
                assert not lease.released, "a lease that was released"
                change.update(total)
                change.subtract(lease.held)
            lacking = self._lacking(change)
            if lacking:
                self._refuse(change, lacking)
            self._apply(change)
            for lease, total in totals.items():
                lease.held = total
                self._leases.add(lease)

    def release(self, lease: Lease) -> None:
        """Take back all that the lease holds. Releasing twice is allowed."""
        with self._lock:
            if lease in self._leases:
                self._leases.remove(lease)
                self._apply(Counter({place: -nbytes for place, nbytes in lease.held.items()}))
            lease.held = Counter()
            lease.released = True

    def set_limit(self, tier: Tier, nbytes: int) -> int:
        """Let `tier` lease `nbytes` from now on.

        When more is leased already, subscribers are asked in the order in which they subscribed, until enough
        is given back. They are called without the ledger's lock, on the caller's thread.

        Returns:
            The bytes that nobody has given back yet. Until they are, nothing of this tier is granted.
        """
        assert nbytes >= 0, nbytes
        with self._lock:
            self._limits[tier] = nbytes
            subscribers = list(self._subscribers)
        for give_back in subscribers:
            demand = self.demand(tier)
            if demand is None:
                break
            give_back(demand)
        return self.account().tiers[tier].shortage

    def demand(self, tier: Tier) -> Demand | None:
        """What has to be given back of `tier` now; None where its limit holds."""
        account = self.account().tiers[tier]
        return Demand(tier, account.shortage, account.limit) if account.shortage else None

    @contextmanager
    def subscribed(self, give_back: GiveBack) -> Iterator[None]:
        """Inside the block `give_back` is called when a lowered limit asks for bytes. It shrinks or releases
        leases of its own, at once or later.
        """
        with self._lock:
            self._subscribers.append(give_back)
        try:
            yield
        finally:
            with self._lock:
                self._subscribers.remove(give_back)

    def account(self) -> Account:
        """How all tiers are divided at this moment."""
        with self._lock:
            return Account({tier: self._tier_account(tier) for tier in Tier}, len(self._leases))

    def _tier_account(self, tier: Tier) -> TierAccount:
        return TierAccount(
            limit=self._limits[tier],
            used=self._used_of(tier),
            peak=self._peaks[tier],
            by_kind={kind: self._used[tier, kind] for kind in Kind if self._used[tier, kind]},
            refusals={kind: self._refusals[tier, kind] for kind in Kind if self._refusals[tier, kind]},
        )

    def _used_of(self, tier: Tier) -> int:
        return sum(nbytes for (where, _), nbytes in self._used.items() if where is tier)

    def _lacking(self, change: Counter[Place]) -> dict[Tier, int]:
        """How many bytes each tier is short of, where the change takes more of it than is left."""
        more = dict.fromkeys(Tier, 0)
        for (tier, _), nbytes in change.items():
            more[tier] += nbytes
        short = {tier: self._used_of(tier) + more[tier] - self._limits[tier] for tier in Tier}
        return {tier: nbytes for tier, nbytes in short.items() if nbytes > 0 and more[tier] > 0}

    def _apply(self, change: Counter[Place]) -> None:
        self._used.update(change)
        assert min(self._used.values(), default=0) >= 0, self._used
        for tier in Tier:
            self._peaks[tier] = max(self._peaks[tier], self._used_of(tier))

    def _refuse(self, change: Counter[Place], lacking: dict[Tier, int]) -> None:
        for place, nbytes in change.items():
            if nbytes > 0 and place[0] in lacking:
                self._refusals[place] += 1
        raise self._refusal(change, lacking)

    def _refusal(self, change: Counter[Place], lacking: dict[Tier, int]) -> DoesNotFit:
        tier = max(lacking, key=lambda short: lacking[short])
        kinds = [kind for where, kind in change if where is tier and change[where, kind] > 0]
        need = sum(change[tier, kind] for kind in kinds)
        limit, used = self._limits[tier], self._used_of(tier)
        smallest = limit + lacking[tier]
        holders = {str(kind): self._used[tier, kind] for kind in Kind if self._used[tier, kind]}
        return DoesNotFit(
            f"{' and '.join(kinds)} need {format_bytes(need)} more of {tier}",
            f"{format_bytes(max(0, limit - used))} of its {format_bytes(limit)} are left",
            f"a {tier} budget of {smallest} bytes ({format_bytes(smallest)}) would do, or ask for less",
            tier=str(tier),
            need=need,
            have=max(0, limit - used),
            limit=limit,
            smallest=smallest,
            used=holders,
        )


class Lease:
    """Granted bytes. `Ledger.reserve` makes it; leaving a `with` block releases it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.held: Counter[Place] = Counter()
        self.released = False

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What it holds, in the order of tiers and kinds."""
        held = self.held
        return tuple(
            Claim(kind, held[tier, kind], tier) for tier in Tier for kind in Kind if held[tier, kind]
        )

    def nbytes(self, tier: Tier = Tier.RAM) -> int:
        """The bytes of `tier` that it holds, of all kinds."""
        return sum(claim.nbytes for claim in self.claims if claim.tier is tier)

    def rearrange(self, *claims: Claim) -> None:
        """Hold these claims in place of the old ones: growing, shrinking or moving in one step.

        Raises:
            DoesNotFit: it would need more than is left; the lease is as it was.
        """
        self.ledger.rearrange({self: claims})

    def release(self) -> None:
        """Give everything back. Releasing twice is allowed."""
        self.ledger.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
