"""OpenAI's plain completions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from apportion.engine.openai import read_served
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.bodies import BodyRoute
from apportion.serve.dialects.completions import TextWriter
from apportion.serve.schemas.completions import CompletionRequest, TextChunk, TextCompletion
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere
from apportion.serve.sse import END_MARK

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/v1/completions", response_model=None, responses=told(TextCompletion, TextChunk, end_mark=END_MARK)
)
@for_users
async def completions(body: CompletionRequest, site: SiteHere, caller: CallerHere) -> Response:
    """Continue texts."""
    return await answered(
        site,
        caller,
        read_served("/v1/completions", body.given(), site.config.limits.asks),
        TextWriter,
        "cmpl-",
    )
