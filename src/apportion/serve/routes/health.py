"""Is the server alive, and is it ready?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from apportion.serve.access import open_to_all
from apportion.serve.errors import json_response
from apportion.serve.site import SiteHere

router = APIRouter()


@router.get("/health")
@open_to_all
async def health() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/v1/health", include_in_schema=False)
@open_to_all
async def health_v1() -> dict[str, str]:
    return await health()


@router.get("/ready", response_model=None)
@open_to_all
async def ready(site: SiteHere) -> Response:
    """A model is loaded, and requests are taken: 200, otherwise 503."""
    states: dict[str, Any] = {info.name: info.state for info in site.models.listed()}
    body = {"ready": site.is_ready, "draining": site.draining, "models": len(states)}
    return json_response(body, 200 if site.is_ready else 503)
