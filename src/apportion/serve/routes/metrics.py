"""What Prometheus scrapes."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from apportion.serve.access import for_users
from apportion.serve.metrics import Sight
from apportion.serve.site import SiteHere

router = APIRouter()


@router.get("/metrics", response_class=PlainTextResponse)
@for_users
async def metrics(request: Request, site: SiteHere) -> Response:
    """All metrics, as text or in the OpenMetrics format."""
    accept = request.headers.get("accept", "")
    page, content_type = await asyncio.to_thread(site.metrics.written, Sight.of(site), accept)
    return Response(page, headers={"Content-Type": content_type})
