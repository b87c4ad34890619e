"""What every route needs, in one place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated

from fastapi import Depends, Request

from apportion.serve.access import Keys, check_exposed
from apportion.serve.browsers import HostNames
from apportion.serve.config import ServeConfig
from apportion.serve.crowd import Crowd
from apportion.serve.drain import Work
from apportion.serve.intake import Room
from apportion.serve.meters import Meters
from apportion.serve.metrics import Page
from apportion.serve.models import Models
from apportion.serve.pump import Pump
from apportion.serve.status.broadcast import Broadcast
from apportion.serve.status.planning import Planning
from apportion.serve.status.snapshot import snapshot_of


@dataclass(slots=True)
class Site:
    """A server that runs.

    Attributes:
        keys, names: of whom it answers, and of what it goes by.
        crowd, room, work: what comes in: connections, bodies, requests.
        readers: threads that turn bodies into requests: templates, tokens, grammars.
        draining: it was told to stop and takes nothing new.
        planning, broadcast, metrics: for those who look at the server.
    """

    config: ServeConfig
    models: Models
    pump: Pump
    meters: Meters
    readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="apportion-read")
    )
    started_s: float = field(default_factory=monotonic)
    draining: bool = False
    keys: Keys = field(init=False)
    names: HostNames = field(init=False)
    crowd: Crowd = field(init=False)
    room: Room = field(init=False)
    work: Work = field(default_factory=Work)
    planning: Planning = field(init=False)
    broadcast: Broadcast = field(init=False)
    metrics: Page = field(init=False)

    def __post_init__(self) -> None:
        self.planning = Planning(self.config)
        self.broadcast = Broadcast(lambda: snapshot_of(self), lambda: self.is_done)
        self.metrics = Page(self.config.metrics_compat)
        self.crowd = Crowd(self.config.limits)
        self.room = Room(self.config.limits.bodies_nbytes)
        self.take_up(self.config)

    def take_up(self, config: ServeConfig) -> None:
        """Let another configuration's keys, names and limits hold from here on.

        Raises:
            UsageError: one of its keys cannot be used; all stays as it was.
        """
        keys = Keys(config.api_keys, config.admin_key)
        check_exposed(config.host, keys)
        self.config, self.keys = config, keys
        self.names = HostNames(config.host, config.allowed_hosts)
        self.crowd.limits = config.limits
        self.room.limit_nbytes = config.limits.bodies_nbytes

    @property
    def is_done(self) -> bool:
        """Whether it was told to stop, and everything that it waits for has ended."""
        return self.draining and not self.work.num_inside

    @property
    def is_ready(self) -> bool:
        """Whether a model is loaded and requests are taken."""
        return not self.draining and bool(self.models.loaded())


def site_of(request: Request) -> Site:
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


SiteHere = Annotated[Site, Depends(site_of)]
