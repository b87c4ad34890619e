"""The conversation of an ask as a prompt, and what is said in answers as the API's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from apportion.engine.chat_turn import ChatTurn
    from apportion.engine.openai.asks import Ask


class Chats(Protocol):
    """What writes conversations as prompts: an `LLM`, or what stands in its place."""

    def chat_turn(self, messages: Any, **asked: Any) -> ChatTurn: ...


def turn_of(host: Chats, ask: Ask) -> ChatTurn:
    """The conversation of a chat's ask, with its tools and what the template reads besides.

    Raises what `engine.chat_turn.chat_turn` raises.
    """
    assert ask.chat is not None
    tools = ask.tools
    return host.chat_turn(
        ask.chat,
        tools=tools.offered,
        tool_choice=tools.choice,
        names=tools.names,
        parallel=tools.parallel,
        template_kwargs=ask.variables,
    )


def message_of(text: str, turn: ChatTurn) -> dict[str, Any]:
    """The assistant's message that an answer's whole text is."""
    said = turn.read(text)
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    if said.calls:
        message["content"] = said.text or None
        message["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in said.calls
        ]
    return message
