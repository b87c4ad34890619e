"""OpenAI's plain completions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from apportion.engine.openai import read_served
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.dialects.completions import TextWriter
from apportion.serve.site import SiteHere

router = APIRouter()


@router.post("/v1/completions")
@for_users
async def completions(body: dict[str, Any], site: SiteHere, caller: CallerHere) -> Response:
    """Continue texts."""
    return await answered(
        site, caller, read_served("/v1/completions", body, site.config.limits.asks), TextWriter, "cmpl-"
    )
