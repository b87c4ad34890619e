"""OpenAI's embeddings."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, cast
from uuid import uuid4

import numpy as np
from fastapi import APIRouter, Request
from starlette.responses import Response

from apportion.core.errors import Unsupported
from apportion.engine.openai import read_prompts
from apportion.serve.access import Caller, CallerHere, for_users
from apportion.serve.answer import Label
from apportion.serve.answering import left
from apportion.serve.bodies import BodyRoute
from apportion.serve.errors import json_response
from apportion.serve.schemas.embeddings import Embeddings, EmbeddingsRequest
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.observers import Embedding
    from apportion.engine.request import Request as EngineRequest

router = APIRouter(route_class=BodyRoute)
GONE = 499  # nobody reads it: the client has left


@router.post("/v1/embeddings", response_model=None, responses=told(Embeddings))
@for_users
async def embeddings(
    body: EmbeddingsRequest, site: SiteHere, caller: CallerHere, request: Request
) -> Response:
    """Texts as vectors of length 1."""
    async with AsyncExitStack() as stack:
        llm = await stack.enter_async_context(site.models.use(body.model))
        loop = asyncio.get_running_loop()
        limit = site.config.limits.num_inputs
        requests = await loop.run_in_executor(site.readers, requests_of, llm, body, caller, limit)
        model = body.model or site.models.default_name
        answer = site.pump.submit(llm, requests, Label(f"embd-{uuid4().hex}", model, caller.name))
        stack.callback(answer.cancel)
        watch = asyncio.create_task(left(request.receive, answer.cancel))
        stack.callback(watch.cancel)
        async for _ in answer:
            pass
    if any(one.cancelled for one in requests):
        return Response(status_code=GONE)
    num_tokens = sum(request.sequence.num_prompt for request in requests)
    data = [
        {"object": "embedding", "index": place, "embedding": written(one, body.encoding_format)}
        for place, one in enumerate(requests)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return json_response({"object": "list", "data": data, "model": model, "usage": usage})


def requests_of(llm: LLM, body: EmbeddingsRequest, caller: Caller, limit: int) -> list[EngineRequest]:
    """A request for each input.

    Raises:
        UsageError, ContextOverflow: an input is empty, malformed or too long.
        Unsupported: vectors of another length are asked for.
    """
    size = llm.model.config.hidden_size
    if body.dimensions not in (None, size):
        raise Unsupported("vectors cannot be shortened", hint="leave dimensions out", has=size).about(
            "dimensions"
        )
    terms = {"tenant": caller.name, "salt": caller.salt}
    return [
        llm.embedding_request(text, body.pooling or "mean", **terms)
        for text in read_prompts(body.input, limit, "input")
    ]


def written(request: EngineRequest, encoding: str | None) -> str | list[float]:
    """The vector, as numbers or as base64."""
    vector = cast("Embedding", request.observer).vector(normalize=True)
    if encoding == "base64":
        return b64encode(vector.astype(np.dtype("<f4")).tobytes()).decode()
    return cast("list[float]", vector.tolist())
