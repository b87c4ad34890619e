"""OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from apportion.engine.openai import read_served
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.dialects.chat import ChatWriter
from apportion.serve.site import SiteHere

router = APIRouter()


@router.post("/v1/chat/completions")
@for_users
async def chat_completions(body: dict[str, Any], site: SiteHere, caller: CallerHere) -> Response:
    """Answer a conversation."""
    ask = read_served("/v1/chat/completions", body, site.config.limits.asks)
    return await answered(site, caller, ask, ChatWriter, "chatcmpl-")
