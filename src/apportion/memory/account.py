"""What the ledger tells: how each tier is divided now, as plain frozen data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apportion.core.claim import Kind, Tier


@dataclass(frozen=True, slots=True)
class TierAccount:
    """One tier. `peak` is the most that was ever leased at once, `refusals` counts by kind what was asked
    for and not granted. All sizes in bytes.
    """

    limit: int
    used: int
    peak: int
    by_kind: Mapping[Kind, int]
    refusals: Mapping[Kind, int]

    @property
    def free(self) -> int:
        """What could still be leased; 0 while more is leased than a lowered limit allows."""
        return max(0, self.limit - self.used)

    @property
    def shortage(self) -> int:
        """What has to be given back until a lowered limit holds."""
        return max(0, self.used - self.limit)


@dataclass(frozen=True, slots=True)
class Account:
    """All tiers at one moment, and how many leases are open."""

    tiers: Mapping[Tier, TierAccount]
    num_leases: int

    def to_dict(self) -> dict[str, object]:
        """The account as one object that `json.dumps` takes as it is."""
        return {"num_leases": self.num_leases} | {
            str(tier): {
                "limit": account.limit,
                "used": account.used,
                "free": account.free,
                "peak": account.peak,
                "shortage": account.shortage,
                "by_kind": {str(kind): nbytes for kind, nbytes in account.by_kind.items()},
                "refusals": {str(kind): count for kind, count in account.refusals.items()},
            }
            for tier, account in self.tiers.items()
        }


@dataclass(frozen=True, slots=True)
class Demand:
    """A tier's limit was lowered: `nbytes` are leased beyond `limit` and have to be given back."""

    tier: Tier
    nbytes: int
    limit: int
