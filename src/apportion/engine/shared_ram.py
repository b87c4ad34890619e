"""One budget of RAM for all models of a process."""

from __future__ import annotations

from apportion.core.claim import Claim, Kind, Tier
from apportion.core.resident import rss_bytes, share_one_heap
from apportion.core.units import MiB
from apportion.engine.assembly import Serving
from apportion.engine.budget import ram_bytes
from apportion.memory import Lease, Ledger
from apportion.plan.estimate import BASE_NBYTES

SERVER_NBYTES = 76 * MiB  # resident bytes of `apportion serve` before its first model: Linux, Python 3.11
BESIDE_NBYTES = 48 * MiB  # requests on their way in and answers on their way out, and what is imported late


def server_nbytes(serving: Serving, vocab_size: int, base_nbytes: int = SERVER_NBYTES) -> int:
    """Bytes that a server takes beyond what `plan.estimate.runtime_nbytes` knows of a model.

    Args:
        base_nbytes: what its process has before a model is loaded.
    """
    process = max(0, base_nbytes - BASE_NBYTES) + BESIDE_NBYTES
    return process + serving.beside_nbytes + serving.beside_per_token * vocab_size


class SharedRam:
    """The account that models share; what the process takes beside them is paid for once.

    Args:
        ram: what the whole process may take, as bytes, `4GiB`, `50%` or `auto`.
        beside: bytes that its owner takes beside what it has when the first model is loaded.

    Attributes:
        ledger: the models lease from it.
    """

    def __init__(self, ram: int | str, beside: int = BESIDE_NBYTES) -> None:
        share_one_heap()  # models come and go, each with threads of its own
        self.ledger = Ledger({Tier.RAM: ram_bytes(ram)})
        self._beside = beside
        self._process: Lease | None = None

    @property
    def limit(self) -> int:
        """Bytes that the whole process may take."""
        return self.ledger.account().tiers[Tier.RAM].limit

    @property
    def free(self) -> int:
        """Bytes that nobody has leased."""
        return self.ledger.account().tiers[Tier.RAM].free

    @property
    def used(self) -> int:
        """Bytes that are leased, for the process itself among them."""
        return self.ledger.account().tiers[Tier.RAM].used

    def measure(self) -> None:
        """Pay for the process itself: for all of it while no model is in memory, and later for what it has
        beyond everything that is leased.

        Raises:
            DoesNotFit: the budget has no room for it.
        """
        own = 0 if self._process is None else self._process.nbytes()
        models, rss = self.used - own, rss_bytes()
        needed = max(own, rss - models) if models else rss + self._beside
        claim = Claim(Kind.RUNTIME, needed)
        if self._process is None:
            self._process = self.ledger.reserve(claim)
        else:
            self._process.rearrange(claim)
