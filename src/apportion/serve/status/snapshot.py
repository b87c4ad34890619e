"""The server at one moment, as each caller may see it."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from apportion import __version__
from apportion.serve.access import Caller
from apportion.serve.schemas.status import Status
from apportion.serve.status.budget import budget_of
from apportion.serve.status.counters import counters_of, stalls_of
from apportion.serve.status.models import model_of
from apportion.serve.status.requests import request_of
from apportion.serve.status.speeds import rates_of

if TYPE_CHECKING:
    from apportion.serve.site import Site


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The server at one moment.

    Attributes:
        status: with the requests of all callers; owners: who asked for each of them.
    """

    status: Status
    owners: tuple[str, ...]
    _written: dict[str, bytes] = field(default_factory=dict)

    def seen_by(self, caller: Caller) -> Status:
        """Without the requests of others, unless an administrator looks."""
        if caller.is_admin:
            return self.status
        pairs = zip(self.owners, self.status.requests, strict=True)
        own = [request for owner, request in pairs if owner == caller.name]
        return self.status.model_copy(update={"requests": own})

    def written_for(self, caller: Caller) -> bytes:
        """The same as JSON, made once for each who looks."""
        who = "admin " if caller.is_admin else caller.name
        if who not in self._written:
            self._written[who] = self.seen_by(caller).model_dump_json().encode()
        return self._written[who]


def snapshot_of(site: Site) -> Snapshot:
    """The server now. Nothing waits for it and it waits for nothing: engines go on stepping meanwhile, so
    that counts may be of this step or the one before.
    """
    now_s, loaded = site.meters.now(), site.models.loaded()
    llms = list(loaded.values())
    answers = sorted(site.pump.answers(), key=lambda answer: answer.began_s)
    status = Status(
        version=__version__,
        uptime_s=monotonic() - site.started_s,
        ready=site.is_ready,
        draining=site.draining,
        budget=budget_of(site.models.ledger, llms),
        models=[
            model_of(info, loaded.get(info.name), site.meters[info.name], now_s)
            for info in site.models.listed()
        ],
        requests=[request_of(answer, now_s) for answer in answers],
        rates=rates_of(site.meters.by_model.values(), now_s),
        stalls=stalls_of(llms),
        counters=counters_of(llms),
    )
    return Snapshot(status, tuple(answer.label.owner for answer in answers))
