"""The unmodified `llm` package against the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.serve.running import Running


@pytest.fixture
def model(server: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))  # before it is imported: it looks for its keys there
    from llm.default_plugins.openai_models import Chat

    return Chat("parrot", model_name="parrot", api_base=f"{server.url}/v1", key="unused", supports_tools=True)


def test_a_prompt_is_answered_as_it_comes(model: Any) -> None:
    assert "".join(model.prompt("Hello you")) == "Hello you"


def test_a_prompt_is_answered_in_one_piece(model: Any) -> None:
    assert model.prompt("Hello you", stream=False).text() == "Hello you"


def test_a_system_prompt_and_options(model: Any) -> None:
    response = model.prompt("Hello you", system="Repeat", max_tokens=5, temperature=0.5, seed=1)
    assert response.text() == "Hello"


def test_tokens_are_counted(model: Any) -> None:
    response = model.prompt("Hello you", stream=False)
    response.text()
    assert response.usage().output == 9


def test_a_conversation_goes_on(model: Any) -> None:
    conversation = model.conversation()
    assert conversation.prompt("one").text() == "one"
    assert conversation.prompt("two").text() == "two"


def test_a_tool_is_called(model: Any) -> None:
    def weather(city: str) -> str:
        return f"rain in {city}"

    call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
    chain = model.chain(call, tools=[weather])
    assert "rain in Oslo" in "".join(chain)
