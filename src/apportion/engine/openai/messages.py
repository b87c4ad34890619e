"""The messages of a chat, as clients send them: what an answer of ours looked like is taken back as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apportion.core.errors import LimitExceeded, Unsupported, UsageError
from apportion.engine.openai.fields import shown_name
from apportion.engine.openai.limits import AskLimits
from apportion.engine.prompts import Message
from apportion.text.messages import MESSAGE_KEYS

# Of messages that OpenAI's clients repeat from answers; they hold nothing that a template reads.
REPEATED = frozenset({"refusal", "annotations", "audio", "function_call"})
MEDIA = frozenset(
    {"image_url", "input_image", "image", "input_audio", "audio", "file", "input_file", "video_url"}
)


def read_messages(given: Any, lenient: bool, limits: AskLimits) -> tuple[Sequence[Message], list[str]]:
    """The messages, and warnings of what was ignored in them.

    Raises:
        UsageError: there are none, or one is no object with a role.
        Unsupported: one holds an image, or something else that is no text.
        LimitExceeded: there are too many.
    """
    if not isinstance(given, list) or not given:
        raise UsageError("messages is a list of at least one message").about("messages")
    if len(given) > limits.num_messages:
        raise LimitExceeded(
            "there are too many messages", messages=len(given), limit=limits.num_messages
        ).about("messages")
    warnings: list[str] = []
    messages = []
    for place, message in enumerate(given):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UsageError(
                "a message is an object with a role", hint='{"role": "user", "content": "Hello"}'
            ).about(f"messages.{place}")
        check_media(message.get("content"), place)
        messages.append(known_part(message, warnings) if lenient else message)
    return messages, warnings


def check_media(content: Any, place: int) -> None:
    for number, part in enumerate(content if isinstance(content, list) else ()):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if isinstance(kind, str) and kind in MEDIA:
            raise Unsupported(
                f"a part of type {kind!r} cannot be read", "models that are served here read text alone"
            ).about(f"messages.{place}.content.{number}")


def known_part(message: Message, warnings: list[str]) -> Message:
    """The message without what no template reads; a refusal is what the assistant said."""
    for name, value in message.items():
        if name not in MESSAGE_KEYS and name not in REPEATED and value is not None:
            warning = f"unknown field {shown_name(name)} of a message was ignored"
            if warning not in warnings:
                warnings.append(warning)
    known = {name: value for name, value in message.items() if name in MESSAGE_KEYS and value is not None}
    if message["role"] == "assistant" and "content" not in known and not known.get("tool_calls"):
        refusal = message.get("refusal")
        known["content"] = refusal if isinstance(refusal, str) else ""
    return known
