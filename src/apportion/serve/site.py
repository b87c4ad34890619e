"""What every route needs, in one place."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated

from fastapi import Depends, Request

from apportion.serve.config import ServeConfig
from apportion.serve.meters import Meters
from apportion.serve.models import Models
from apportion.serve.pump import Pump


@dataclass(slots=True)
class Site:
    """A server that runs.

    Attributes:
        readers: threads that turn bodies into requests: templates, tokens, grammars.
        draining: it was told to stop and takes nothing new.
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

    @property
    def is_ready(self) -> bool:
        """Whether a model is loaded and requests are taken."""
        return not self.draining and bool(self.models.loaded())


def site_of(request: Request) -> Site:
    site = request.app.state.site
    assert isinstance(site, Site)
    return site


SiteHere = Annotated[Site, Depends(site_of)]
