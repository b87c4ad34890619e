"""OpenAI's responses, of which none is kept."""

from __future__ import annotations

from functools import partial
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response as HttpResponse

from apportion.core.errors import ApportionError
from apportion.engine.openai import Ask, AskLimits, read_served
from apportion.serve.access import CallerHere, for_users
from apportion.serve.answering import answered
from apportion.serve.bodies import BodyRoute
from apportion.serve.dialects.responses import ResponsesWriter
from apportion.serve.dialects.responses_request import blamed, chat_body
from apportion.serve.schemas.responses import Response, ResponseEvent, ResponseRequest
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere

router = APIRouter(route_class=BodyRoute)


@router.post("/v1/responses", response_model=None, responses=told(Response, ResponseEvent))
@for_users
async def responses(body: ResponseRequest, site: SiteHere, caller: CallerHere) -> HttpResponse:
    """Answer an input; send all of a conversation each time."""
    given = body.given()
    ask = read(given, site.config.limits.asks)
    return await answered(site, caller, ask, partial(ResponsesWriter, asked=given), "resp_")


def read(body: dict[str, Any], limits: AskLimits) -> Ask:
    """What a body asks.

    Raises what `read_served` raises; `param` is the field as it is called here.
    """
    try:
        return read_served("/v1/chat/completions", chat_body(body), limits)
    except ApportionError as error:
        error.param = error.param and blamed(error.param)
        raise
