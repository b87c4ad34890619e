"""Answers and errors as the OpenAI API writes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from apportion.core.errors import (
    ApportionError,
    ContextOverflow,
    LimitExceeded,
    TemplateError,
    Unsupported,
    UsageError,
)
from apportion.engine.openai.turns import message_of

if TYPE_CHECKING:
    from apportion.engine.chat_turn import ChatTurn
    from apportion.engine.completion import Completion, TokenLogprobs
    from apportion.engine.openai.asks import Endpoint
    from apportion.text.tokenizer import Tokenizer

CALLERS = (
    UsageError,
    LimitExceeded,
    ContextOverflow,
    TemplateError,
    Unsupported,
)  # errors that a caller makes
OBJECTS: dict[str, str] = {"/v1/chat/completions": "chat.completion", "/v1/completions": "text_completion"}


def answer_body(
    endpoint: Endpoint,
    answers: Sequence[Completion],
    num_prompts: int,
    *,
    answer_id: str,
    model: str,
    created: int,
    tokenizer: Tokenizer,
    turn: ChatTurn | None = None,
) -> dict[str, Any]:
    """The body of a response.

    Args:
        answers: for each prompt in turn as many as there are choices.
        num_prompts: those whose tokens are counted once.
        created: seconds since 1970.
        turn: of a chat: how its answers are read.
    """
    return {
        "id": answer_id,
        "object": OBJECTS[endpoint],
        "created": created,
        "model": model,
        "choices": [
            text_choice(place, answer, tokenizer)
            if turn is None
            else chat_choice(place, answer, tokenizer, turn)
            for place, answer in enumerate(answers)
        ],
        "usage": usage(answers, num_prompts),
    }


def chat_choice(place: int, answer: Completion, tokenizer: Tokenizer, turn: ChatTurn) -> dict[str, Any]:
    logprobs = None
    if answer.logprobs is not None:
        logprobs = {"content": [chat_logprob(one, tokenizer) for one in answer.logprobs]}
    message = message_of(answer.text, turn)
    ends_in_calls = answer.finish_reason == "stop" and "tool_calls" in message
    return {
        "index": place,
        "message": message,
        "logprobs": logprobs,
        "finish_reason": "tool_calls" if ends_in_calls else answer.finish_reason,
    }


def text_choice(place: int, answer: Completion, tokenizer: Tokenizer) -> dict[str, Any]:
    logprobs = None
    if answer.logprobs is not None:
        tokens = [shown(one.chosen.token_id, tokenizer) for one in answer.logprobs]
        logprobs = {
            "tokens": tokens,
            "token_logprobs": [one.chosen.logprob for one in answer.logprobs],
            "top_logprobs": [
                {shown(top.token_id, tokenizer): top.logprob for top in one.top} for one in answer.logprobs
            ],
            "text_offset": [sum(map(len, tokens[:i])) for i in range(len(tokens))],
        }
    return {
        "index": place,
        "text": answer.text,
        "logprobs": logprobs,
        "finish_reason": answer.finish_reason,
    }


def chat_logprob(one: TokenLogprobs, tokenizer: Tokenizer) -> dict[str, Any]:
    def entry(token: int, logprob: float) -> dict[str, Any]:
        data = tokenizer.token_bytes(token)
        return {"token": shown(token, tokenizer), "logprob": logprob, "bytes": list(data)}

    top = [entry(other.token_id, other.logprob) for other in one.top]
    return {**entry(one.chosen.token_id, one.chosen.logprob), "top_logprobs": top}


def shown(token: int, tokenizer: Tokenizer) -> str:
    """A token's text; bytes that are no character are spelt out."""
    return tokenizer.token_bytes(token).decode("utf-8", "backslashreplace")


def usage(answers: Sequence[Completion], num_prompts: int) -> dict[str, Any]:
    """Tokens read and said; a prompt that several answers share counts once."""
    firsts = answers[:: max(1, len(answers) // max(1, num_prompts))]
    prompt = sum(answer.prompt_tokens for answer in firsts)
    output = sum(answer.output_tokens for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": sum(answer.cached_tokens for answer in firsts)},
    }


def error_body(error: ApportionError) -> dict[str, Any]:
    """The error as `message`, `type` and `code`, and what is behind it."""
    blame = "invalid_request_error" if isinstance(error, CALLERS) else "server_error"
    details = error.to_dict()
    return {
        "message": str(error),
        "type": blame,
        "param": error.param,
        "code": details["code"],
        "details": details,
    }
