"""OpenAI's chat completions."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from apportion.engine.openai import read_served
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.bodies import BodyRoute
from apportion.serve.dialects.chat import ChatWriter
from apportion.serve.schemas.chat import ChatChunk, ChatCompletion, ChatRequest
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere
from apportion.serve.sse import END_MARK

router = APIRouter(route_class=BodyRoute)


@router.post(
    "/v1/chat/completions", response_model=None, responses=told(ChatCompletion, ChatChunk, end_mark=END_MARK)
)
@for_users
async def chat_completions(body: ChatRequest, site: SiteHere, caller: CallerHere) -> Response:
    """Answer a conversation."""
    ask = read_served("/v1/chat/completions", body.given(), site.config.limits.asks)
    return await answered(site, caller, ask, ChatWriter, "chatcmpl-")
