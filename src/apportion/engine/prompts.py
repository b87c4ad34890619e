"""From what callers pass, text, token ids or messages, to a prompt's token ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from apportion.core.errors import Unsupported, UsageError
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


def prompt_ids(prompt: Prompt, tokenizer: Tokenizer) -> Ints:
    """Token ids, [n] int32. Text gets the model's BOS where its tokenizer adds one; ids stay as they are."""
    if isinstance(prompt, str):
        return with_bos(tokenizer.encode(prompt, add_special=False, parse_special=True), tokenizer)
    ids = np.asarray(prompt, dtype=np.int64)
    if len(ids) and (ids.min() < 0 or ids.max() >= tokenizer.vocab_size):
        raise UsageError(
            "a token id is outside the vocabulary",
            lowest=int(ids.min()),
            highest=int(ids.max()),
            vocab_size=tokenizer.vocab_size,
        )
    return ids.astype(np.int32)


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
