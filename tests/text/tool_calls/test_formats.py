from __future__ import annotations

from pathlib import Path

import pytest

from apportion.text.tool_calls import BASELINE, TOOL_FORMATS, format_of
from apportion.text.tool_calls.deepseek import ALL_BEGIN

# What the chat templates of public models say where they tell of tools, in our words.
TEMPLATES = {
    "qwen 2.5": ("{% if tools %}within <tool_call></tool_call> XML tags:\n<tool_call>\n", "hermes"),
    "hermes over llama 3": ("<|begin_of_text|>{% if tools %}<tool_call>{{ '<|python_tag|>' }}", "hermes"),
    "qwen 3": ('{{ \'<tool_call>\\n{"name": "\' }}<think></think>', "hermes"),
    "qwen 3 coder": ("<tool_call>\n<function=example>\n<parameter=a>\nvalue\n</parameter>", "qwen3_coder"),
    "llama 3.1": ('{{ \'<|python_tag|>\' }} {"name": function name, "parameters": dictionary}', "llama3"),
    "llama 3.2": ('in the format {"name": function name, "parameters": dictionary}', "llama3"),
    "mistral 0.3": ("[AVAILABLE_TOOLS]{{ tools }}[/AVAILABLE_TOOLS][TOOL_CALLS] [", "mistral"),
    "mistral small 3.2": ("[AVAILABLE_TOOLS][TOOL_CALLS]{{ name }}[ARGS]{{ arguments }}", "mistral_args"),
    "magistral": ("[THINK][/THINK][TOOL_CALLS]{{ name }}[CALL_ID]{{ id }}[ARGS]", "mistral_args"),
    "deepseek r1": (f"{ALL_BEGIN}function\n```json\n<think></think>", "deepseek"),
    "deepseek v3.1": (f"{ALL_BEGIN}{{{{ name }}}}", "deepseek_v31"),
    "gpt-oss": ("<|start|>assistant<|channel|>analysis<|message|>", "harmony"),
    "functionary 3.1": ("<function=example>{{ '<|python_tag|>' }}</function>", "function_tags"),
    "plain": ("{% for m in messages %}{{ m.content }}{% endfor %}", "generic_json"),
    "granite 3": ("<|tool_call|>{{ tools }}", "generic_json"),
}


@pytest.mark.parametrize(("source", "name"), TEMPLATES.values(), ids=TEMPLATES)
def test_one_format_alone_knows_a_template(source: str, name: str) -> None:
    assert format_of(source) is TOOL_FORMATS.get(name)
    known = [other for other in TOOL_FORMATS if other != BASELINE and TOOL_FORMATS.get(other).matches(source)]
    assert len(known) <= 1


@pytest.mark.parametrize("name", TOOL_FORMATS)
def test_a_format_says_what_it_is_and_who_writes_so(name: str) -> None:
    tool_format = TOOL_FORMATS.get(name)
    assert tool_format.sentence().endswith(".")
    assert tool_format.models
    assert all(mark in tool_format.example for mark in tool_format.marks[:1]) or name == "llama3"


PUBLIC = {
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "hermes",
    "Qwen-Qwen2.5-7B-Instruct": "hermes",
    "llama-cpp-deepseek-r1": "deepseek",
    "meetkai-functionary-medium-v3.1": "function_tags",
    "meta-llama-Llama-3.1-8B-Instruct": "llama3",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3",
    "meta-llama-Llama-3.3-70B-Instruct": "llama3",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "google-gemma-2-2b-it": "generic_json",
    "microsoft-Phi-3.5-mini-instruct": "generic_json",
}


def test_templates_of_public_models_are_known(shared_data: Path) -> None:
    for model, name in PUBLIC.items():
        source = (shared_data / "chat_templates" / f"{model}.jinja").read_bytes().decode()
        assert format_of(source) is TOOL_FORMATS.get(name), model
