"""Anthropic's messages."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from apportion.core.errors import ApportionError
from apportion.engine.openai import Ask, AskLimits, read_served, turn_of
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.bodies import BodyRoute
from apportion.serve.dialects.messages import MessagesWriter
from apportion.serve.dialects.messages_request import blamed, chat_body, wants_thinking
from apportion.serve.schemas.errors import MessagesFailure
from apportion.serve.schemas.messages import CountRequest, Message, MessagesEvent, MessagesRequest, TokenCount
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere

router = APIRouter(route_class=BodyRoute)


@router.post("/v1/messages", response_model=None, responses=told(Message, MessagesEvent, MessagesFailure))
@for_users
async def messages(body: MessagesRequest, site: SiteHere, caller: CallerHere) -> Response:
    """Answer a conversation."""
    given = body.given()
    ask = read(given, site.config.limits.asks)
    writer = partial(MessagesWriter, stop=ask.params.stop, tells_thinking=wants_thinking(given))
    return await answered(site, caller, ask, writer, "msg_")


@router.post(
    "/v1/messages/count_tokens",
    response_model=None,
    responses=told(TokenCount, None, MessagesFailure),
)
@for_users
async def count_tokens(body: CountRequest, site: SiteHere) -> dict[str, int]:
    """How many tokens a conversation is."""
    ask = read(body.given(), site.config.limits.asks)
    async with site.models.use(ask.model) as llm:
        turn = await asyncio.get_running_loop().run_in_executor(site.readers, turn_of, llm, ask)
    return {"input_tokens": len(turn.ids)}


def read(body: dict[str, Any], limits: AskLimits) -> Ask:
    """What a body asks.

    Raises what `read_served` raises; `param` is the field as it is called here.
    """
    try:
        return read_served("/v1/chat/completions", chat_body(body), limits)
    except ApportionError as error:
        error.param = error.param and blamed(error.param)
        raise
