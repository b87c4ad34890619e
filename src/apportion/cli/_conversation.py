"""The messages of a chat: what is said, taken back, saved and loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict

from apportion.core.errors import BadFile, LimitExceeded, UsageError

MAX_SAVED = 64 << 20  # bytes of a saved conversation that are read


class Said(TypedDict):
    """One message."""

    role: str
    content: str


class Conversation:
    """Messages in order: an optional system message, then user and assistant in turn."""

    def __init__(self, system: str | None = None) -> None:
        self.messages: list[Said] = []
        if system:
            self.set_system(system)

    @property
    def system(self) -> str | None:
        first = self.messages[0] if self.messages else None
        return first["content"] if first and first["role"] == "system" else None

    def set_system(self, text: str) -> None:
        """Put `text` in the place of the system message; what was said stays."""
        rest = self.messages[1:] if self.system is not None else self.messages
        self.messages = [Said(role="system", content=text), *rest]

    def say(self, role: str, content: str) -> None:
        self.messages.append(Said(role=role, content=content))

    def take_back(self) -> None:
        """Forget the last message."""
        self.messages.pop()

    def take_back_answer(self) -> None:
        """Forget the last answer, so that its question stands last again.

        Raises:
            UsageError: the last message is no answer.
        """
        if not self.messages or self.messages[-1]["role"] != "assistant":
            raise UsageError("there is no answer to give again")
        self.messages.pop()

    def reset(self) -> None:
        """Forget all but the system message."""
        self.messages = self.messages[:1] if self.system is not None else []

    def save(self, path: Path) -> None:
        """Write the messages as JSON."""
        path.write_text(json.dumps({"messages": self.messages}, ensure_ascii=False, indent=2) + "\n", "utf-8")

    def load(self, path: Path) -> None:
        """Replace the messages by those of a file that `save` wrote.

        Raises:
            BadFile: the file holds no conversation; the messages stay as they are.
            LimitExceeded: it is larger than any conversation.
        """
        if path.stat().st_size > MAX_SAVED:
            raise LimitExceeded(f"{path} is too large for a conversation", limit=MAX_SAVED)
        try:
            self.messages = [said(message) for message in json.loads(path.read_bytes())["messages"]]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadFile(f"{path} holds no conversation", str(error), "/save writes such a file") from error


def said(message: dict[str, object]) -> Said:
    role, content = message["role"], message["content"]
    if not isinstance(role, str) or not isinstance(content, str):
        raise TypeError("role and content must be texts")
    return Said(role=role, content=content)
