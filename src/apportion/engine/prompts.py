"""From what callers pass, text, token ids or messages, to a prompt's token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from apportion.core.errors import ContextOverflow, Unsupported, UsageError
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.text.chat_template import ChatTemplate
    from apportion.text.tokenizer import Tokenizer

Prompt: TypeAlias = str | Sequence[int]
Prompts: TypeAlias = list[str] | list[list[int]]
Message: TypeAlias = Mapping[str, Any]


def is_one_prompt(prompt: object) -> TypeGuard[Prompt]:
    """Whether it is text or token ids, and not a list of such prompts."""
    if isinstance(prompt, str):
        return True
    return isinstance(prompt, Iterable) and all(isinstance(item, (int, np.integer)) for item in prompt)


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer, ctx: int | None = None) -> Ints:
    """Token ids, [n] int32. Text gets the model's BOS where its tokenizer adds one; ids stay as they are.

    Args:
        ctx: positions of the context; text that cannot fit is refused before time is spent on it.
    """
    if isinstance(prompt, str):
        return text_ids(prompt, tokenizer, ctx)
    ids = np.asarray(prompt, dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= tokenizer.vocab_size):
        raise UsageError(
            "a token id is outside the vocabulary",
            lowest=int(ids.min()),
            highest=int(ids.max()),
            vocab_size=tokenizer.vocab_size,
        )
    return ids.astype(np.int32)


def text_ids(text: str, tokenizer: Tokenizer, ctx: int | None) -> Ints:
    """The token ids of a text in which special tokens are recognised.

    Raises:
        ContextOverflow: it is longer than `ctx` tokens could be.
    """
    if ctx is not None:
        check_length(text, tokenizer, ctx)
    return with_bos(tokenizer.encode(text, add_special=False, parse_special=True), tokenizer)


def check_length(text: str, tokenizer: Tokenizer, ctx: int) -> None:
    """Refuse a text that is longer than `ctx` tokens could be; that takes no time.

    Raises:
        ContextOverflow
    """
    if len(text) > ctx * tokenizer.longest_token:
        raise ContextOverflow(
            "the prompt is longer than the context, whatever its tokens are",
            "prompt and answer share it, and nothing is ever truncated",
            "shorten the prompt, or raise ctx",
            prompt_chars=len(text),
            prompt_tokens=f"at least {-(-len(text) // tokenizer.longest_token)}",
            ctx=ctx,
        )


def required(template: ChatTemplate | None, name: str) -> ChatTemplate:
    """The template, or the error that says that there is none."""
    if template is None:
        raise Unsupported(
            f"{name} cannot chat",
            "the checkpoint has no chat template",
            "use plain completion: `LLM.generate`, or `apportion run`",
        )
    return template


def checked(messages: Sequence[Message]) -> Sequence[Message]:
    if not messages:
        raise UsageError("there are no messages", "a chat needs at least one")
    for place, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(
                "a message must be a mapping with a role", place=place, message=repr(message)[:80]
            )
    return messages


def with_bos(ids: list[int], tokenizer: Tokenizer) -> Ints:
    """`ids` with a BOS before them if the tokenizer adds one and they do not begin with it.

    An end-of-sequence token that a tokenizer adds for training is left out: it would end the prompt.
    """
    bos = tokenizer.bos_id
    if bos is not None and tokenizer.adds_bos and ids[:1] != [bos]:
        ids = [bos, *ids]
    return np.array(ids, dtype=np.int32)
