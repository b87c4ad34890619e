"""Texts as tokens and back, and conversations as the model reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import APIRouter

from apportion.core.errors import UsageError
from apportion.engine.openai import read_served
from apportion.engine.openai.answers import shown
from apportion.engine.openai.asks import are_ids
from apportion.engine.prompts import check_length
from apportion.serve.access import for_users
from apportion.serve.bodies import BodyRoute
from apportion.serve.schemas.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TemplateAnswer,
    TemplateRequest,
    TokenizeAnswer,
    TokenizeRequest,
    TokenizerInfo,
)
from apportion.serve.schemas.told import told
from apportion.serve.site import Site, SiteHere

if TYPE_CHECKING:
    from apportion.engine import LLM

T = TypeVar("T")
router = APIRouter(route_class=BodyRoute)
OF_CHATS = ("model", "messages", "tools", "tool_choice", "chat_template_kwargs", "reasoning_effort")


@router.post("/tokenize", response_model=None, responses=told(TokenizeAnswer))
@for_users
async def tokenize(body: TokenizeRequest, site: SiteHere) -> dict[str, Any]:
    """A prompt, or a conversation, in tokens."""
    return await read(site, body.model, lambda llm: tokens_of(llm, body, site))


@router.post("/detokenize", response_model=None, responses=told(DetokenizeAnswer))
@for_users
async def detokenize(body: DetokenizeRequest, site: SiteHere) -> dict[str, Any]:
    """The text of tokens."""
    if not are_ids(body.tokens):
        raise UsageError("what is no token id stands among the tokens").about("tokens")
    return await read(site, body.model, lambda llm: {"prompt": llm.tokenizer.decode(body.tokens)})


@router.get("/tokenizer_info", response_model=None, responses=told(TokenizerInfo))
@for_users
async def tokenizer_info(site: SiteHere, model: str | None = None) -> dict[str, Any]:
    """What programs need that render chats and cut texts themselves, and have the tokens made here."""
    return await read(site, model, described)


@router.post("/apply-template", response_model=None, responses=told(TemplateAnswer))
@for_users
async def apply_template(body: TemplateRequest, site: SiteHere) -> dict[str, Any]:
    """A conversation as the model reads it."""
    return await read(site, body.model, lambda llm: {"prompt": rendered(llm, body, site)})


async def read(site: Site, model: str | None, function: Callable[[LLM], T]) -> T:
    """Run something that takes a while and needs a model's texts alone."""
    async with site.models.use(model) as llm:
        return await asyncio.get_running_loop().run_in_executor(site.readers, function, llm)


def described(llm: LLM) -> dict[str, Any]:
    tokenizer = llm.tokenizer
    begin, end = (
        None if token is None else tokenizer.token_text(token)
        for token in (tokenizer.bos_id, tokenizer.eos_id)
    )
    return {
        "bos_token": begin,
        "eos_token": end,
        "add_bos_token": tokenizer.adds_bos,
        "vocab_size": tokenizer.vocab_size,
        "model_max_length": llm.ctx,
        "chat_template": None if llm.template is None else llm.template.source,
    }


def tokens_of(llm: LLM, body: TokenizeRequest, site: Site) -> dict[str, Any]:
    if (body.prompt is None) == (body.messages is None):
        raise UsageError("give either a prompt or messages").about("prompt")
    adds = body.add_special_tokens is not False and body.prompt is not None
    text = body.prompt if body.prompt is not None else rendered(llm, body, site)
    tokenizer = llm.tokenizer
    check_length(text, tokenizer, llm.ctx)
    ids = tokenizer.encode(text, add_special=False, parse_special=True)
    if adds and tokenizer.adds_bos and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id, *ids]
    told_tokens: dict[str, Any] = {"count": len(ids), "max_model_len": llm.ctx, "tokens": ids}
    if body.return_token_strs:
        told_tokens["token_strs"] = [shown(token, tokenizer) for token in ids]
    return told_tokens


def rendered(llm: LLM, body: TokenizeRequest | TemplateRequest, site: Site) -> str:
    """The text of a conversation."""
    given = {name: value for name, value in body.given().items() if name in OF_CHATS}
    ask = read_served("/v1/chat/completions", given, site.config.limits.asks)
    assert ask.chat is not None
    return llm.chat_text(
        ask.chat,
        tools=ask.tools.offered if ask.tools else (),
        template_kwargs=ask.variables,
        add_generation_prompt=body.add_generation_prompt is not False,
    )
