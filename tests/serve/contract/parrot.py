"""A model that answers with the last message that it was given, so that a test says what a model says:
tool calls, thoughts, stop strings.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.engine.conftest import EOG, VOCAB, ByteTokenizer, assembled
from tests.models.tiny import tiny_config

from apportion.engine import LLM, SamplingParams
from apportion.engine.assembly import Serving
from apportion.engine.loading import LoadedModel
from apportion.text.chat_template import ChatTemplate

# It writes calls as Hermes does, and thoughts between <think> and </think>.
TEMPLATE = (
    "{# <tool_call> </think> #}{% if tools %}[tools]{{ tools | tojson }}\n{% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}[quick]\n{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content or '' }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
BEGIN = b"[assistant]"
CTX = 2048


def repeat(context: list[int]) -> int:
    """The next token of an answer that is the last message of a user or tool."""
    said = bytes(token for token in context if token < 256)
    end = said.rfind(BEGIN)
    if end < 0:
        return EOG
    asked = said[:end]
    begin = max(asked.rfind(b"[user]"), asked.rfind(b"[tool]")) + len(b"[user]")
    answer = asked[begin:].rstrip(b"\n")
    place = len(said) - end - len(BEGIN)
    return answer[place] if place < len(answer) else EOG


def parrot() -> LLM:
    """The model."""
    config = replace(tiny_config("llama"), vocab_size=VOCAB + 6, context_length=CTX)
    loaded: Any = LoadedModel(
        name="parrot",
        model=SimpleNamespace(config=config),
        tokenizer=ByteTokenizer(),
        template=ChatTemplate(TEMPLATE, bos_token="", eos_token=""),
        recommended=SamplingParams(temperature=0),
        checkpoint=SimpleNamespace(close=lambda: None),
    )
    return LLM.over(loaded, assembled(Serving().completed(loaded, CTX, None), repeat))
