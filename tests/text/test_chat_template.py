from __future__ import annotations

import ast
import contextlib
import datetime
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.text.template_attacks import DOS, LEAK, SSTI
from tests.text.template_styles import CHAT, STYLES, TOOLS
from tests.text.vocabularies import byte_level_metadata, write_folder

from apportion.core.clock import VirtualClock
from apportion.core.errors import ApportionError, BadFile, LimitExceeded, TemplateError, UsageError
from apportion.text.chat_template import ChatTemplate, chat_template_from_folder, chat_template_from_gguf

USER = [{"role": "user", "content": "Hi"}]
CLOCK = VirtualClock(wall=datetime.datetime(2025, 1, 2, 3, 4, 5).timestamp())
SOURCE = Path(__file__).resolve().parents[2] / "src" / "apportion"


@pytest.fixture(scope="module")
def shared() -> Iterator[ChatTemplate]:
    """One template object whose source the tests replace: one child process for many renderings."""
    template = ChatTemplate("", bos_token="<s>", eos_token="</s>", clock=CLOCK)
    yield template
    template.close()


def render(shared: ChatTemplate, source: str, messages: Any = USER, **options: Any) -> str:
    shared.source = source
    return shared.render(messages, **options)


@pytest.mark.parametrize(("name", "source", "expected"), STYLES, ids=[style[0] for style in STYLES])
def test_each_style_of_template_gives_its_text(
    name: str, source: str, expected: str, shared: ChatTemplate
) -> None:
    assert render(shared, source, CHAT, tools=TOOLS) == expected


def test_public_templates_give_their_golden_texts(shared: ChatTemplate, shared_data: Path) -> None:
    folder = shared_data / "chat_templates"
    cases = json.loads((folder / "golden_cases.json").read_text("utf-8"))["cases"]
    records = [json.loads(line) for line in (folder / "golden_jinja2.jsonl").read_text("utf-8").splitlines()]
    assert sum("text" in record for record in records) >= 100
    for record in records:
        source = (folder / record["template"]).read_bytes().decode()
        case = cases[record["case"]]
        options = {key: case[key] for key in ("tools", "add_generation_prompt") if key in case}
        if "text" in record:
            assert render(shared, source, case["messages"], **options) == record["text"], record["template"]
        elif "can only concatenate str" in record["error"]:  # it wants arguments as texts
            assert render(shared, source, case["messages"], **options)
        else:
            with pytest.raises(TemplateError) as caught:
                render(shared, source, case["messages"], **options)
            if "gemma" in record["template"]:
                assert caught.value.why == record["error"].removeprefix("TemplateError: ")


@pytest.mark.parametrize("payload", SSTI)
def test_no_escape_from_the_sandbox_shows_anything(payload: str, shared: ChatTemplate) -> None:
    try:
        text = render(shared, payload)
    except TemplateError as error:
        text = str(error.why)
    assert not re.search(LEAK, text)
    assert "uid=" not in text


def test_the_corpus_of_attacks_is_large_enough() -> None:
    assert len(set(SSTI)) >= 60
    assert len(set(DOS)) >= 25
    assert len({name for name, _, _ in STYLES}) >= 30


def children_seconds() -> float:
    """Processor time of all child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rendering_seconds(source: str) -> float:
    """Processor time of the child processes that render this template, and a plain one after it."""
    template = ChatTemplate(source, bos_token="<s>", eos_token="</s>", clock=CLOCK)
    before = children_seconds()
    try:
        with contextlib.suppress(TemplateError, LimitExceeded):
            assert len(template.render(USER)) <= 4 << 20
        assert render(template, "{{ messages[0].content }}") == "Hi"
    finally:
        template.close()
    return children_seconds() - before


@pytest.fixture(scope="module")
def start_up_seconds() -> float:
    return max(rendering_seconds("") for _ in range(3))


@pytest.mark.parametrize("place", range(len(DOS)))
def test_a_greedy_template_ends_within_its_limits(place: int, start_up_seconds: float) -> None:
    # One second is allowed, and two processes start; a busy machine stretches that by some.
    assert rendering_seconds(DOS[place]) < 1.2 + 3 * start_up_seconds


def test_greedy_templates_stay_under_the_memory_limit() -> None:
    # Measured from a small process: what a child needs counts from what its parent had when it started it.
    code = """
import contextlib, resource
from apportion.core.errors import ApportionError
from apportion.text.chat_template import ChatTemplate
from tests.text.template_attacks import DOS
for source in DOS[5:12] + DOS[15:18] + DOS[21:22]:
    template = ChatTemplate(source)
    with contextlib.suppress(ApportionError):
        template.render([{"role": "user", "content": "Hi"}])
    template.close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    command = [sys.executable, "-c", code]
    output = subprocess.run(command, cwd=SOURCE.parents[1], check=True, capture_output=True).stdout
    assert 16 << 10 < int(output) < 256 << 10  # in KiB


def test_time_is_processor_time_of_one_rendering(shared: ChatTemplate) -> None:
    loop = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateError, match="time limit"):
        render(shared, loop)
    for _ in range(12):  # together more than a second, each of them less
        render(shared, "{% for i in range(99999) %}{% set x = i * i %}{% endfor %}")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("{{ raise_exception('No system role, please') }}", "No system role, please"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("line\n{{ nothing.at.all }}", "'nothing' is undefined (template line 2)"),
        ("\n\n{% if %}", "(template line 3)"),
        ("{{ 'a' * 10**9 }}", "256 MiB"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deep"),
        ("{% for i in range(9999) %}{{ 'a' * 1000 }}{% endfor %}", "longer than 4 MiB"),
    ],
)
def test_a_failure_says_why(source: str, why: str, shared: ChatTemplate) -> None:
    with pytest.raises(TemplateError) as caught:
        render(shared, source)
    assert why in caught.value.why


def test_tools_that_are_absent_are_neither_defined_nor_anything(shared: ChatTemplate) -> None:
    source = "{{ tools is defined }}{{ tools is none }}{{ 1 if tools else 0 }}{{ documents is none }}"
    assert render(shared, source) == "FalseTrue0True"
    assert render(shared, source, tools=TOOLS, documents=[]) == "TrueFalse1False"
    assert render(shared, "{{ other is none }}") == "False"


def test_variables_reach_the_template_and_unknown_ones_are_refused(shared: ChatTemplate) -> None:
    assert render(shared, "{{ enable_thinking }}", enable_thinking=False) == "False"
    with pytest.raises(UsageError, match="did you mean enable_thinking"):
        render(shared, "", enable_thinkin=True)
    with pytest.raises(UsageError, match="unknown chat template variable"):
        render(shared, "", bos_token="x")


def test_text_survives_the_pipes(shared: ChatTemplate) -> None:
    text = "é🚀\0\x85\u2028\ud800<>&'\"{{ 1 }}{% raise %}"
    assert render(shared, "{{ messages[0].content }}", [{"role": "user", "content": text}]) == text


def test_user_text_is_never_run_as_a_template(shared: ChatTemplate) -> None:
    attack = "{{ raise_exception('run') }}"
    assert render(shared, "{{ messages[0].content }}", [{"role": "user", "content": attack}]) == attack


def test_values_that_are_no_json_are_refused(shared: ChatTemplate) -> None:
    with pytest.raises(UsageError, match="plain JSON"):
        render(shared, "", tools=[{"x": object()}])


def test_a_template_set_uses_the_tool_template_for_tools() -> None:
    template = ChatTemplate("plain", tool_use="with tools", clock=CLOCK)
    assert template.render(USER) == "plain"
    assert template.render(USER, tools=TOOLS) == "with tools"
    template.close()


def test_too_long_a_template_or_chat_is_refused(shared: ChatTemplate) -> None:
    with pytest.raises(LimitExceeded, match="template is too long"):
        ChatTemplate("x" * (257 << 10))
    with pytest.raises(LimitExceeded, match="chat is too large"):
        render(shared, "", [{"role": "user", "content": "x" * (17 << 20)}])


def test_the_child_is_kept_and_replaced_after_a_breach() -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    assert template._process._child._process is None  # not started before it is needed
    template.render(USER)
    first = template._process._child._process
    template.render(USER)
    assert first is not None
    assert template._process._child._process is first
    os.kill(first.pid, signal.SIGKILL)
    with pytest.raises(TemplateError, match="broke the process"):
        template.render(USER)
    assert template.render(USER) == "Hi"
    assert template._process._child._process is not first
    template.close()


def test_the_child_ends_with_the_template_object() -> None:
    template = ChatTemplate("x")
    template.render(USER)
    child = template._process._child._process
    assert child is not None
    del template
    assert child.returncode is not None


def test_an_interrupted_rendering_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{{ messages[0].content }}")
    template.render(USER)

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("apportion.core.child._read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        template.render([{"role": "user", "content": "first"}])
    monkeypatch.undo()
    assert template.render([{"role": "user", "content": "second"}]) == "second"
    template.close()


def test_threads_take_turns() -> None:
    template = ChatTemplate("{{ messages[0].content * 50 }}")
    found: list[bool] = []

    def ask(word: str) -> None:
        for _ in range(20):
            found.append(template.render([{"role": "user", "content": word}]) == word * 50)

    threads = [threading.Thread(target=ask, args=(word,)) for word in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 80
    template.close()


def test_the_child_inherits_nothing(shared: ChatTemplate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "x")
    read, write = os.pipe()
    os.set_inheritable(read, True)
    template = ChatTemplate("x")
    template.render(USER)
    child = template._process._child._process
    assert child is not None
    proc = Path("/proc") / str(child.pid)
    if not proc.is_dir():
        pytest.skip("needs /proc")
    assert (proc / "environ").read_bytes() == b""
    assert sorted(path.name for path in (proc / "fd").iterdir()) == ["0", "1", "2"]
    limits = (proc / "limits").read_text()
    assert re.search(r"Max address space +268435456 +268435456", limits)
    assert re.search(r"Max open files +0 +0", limits)
    template.close()
    os.close(read)
    os.close(write)


def test_rendering_again_is_quick() -> None:
    template = ChatTemplate(STYLES[0][1])
    template.render(CHAT)
    start = time.perf_counter()
    for _ in range(20):
        template.render(CHAT)
    assert (time.perf_counter() - start) / 20 < 0.25
    template.close()


def test_a_platform_that_cannot_render_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "")
    with pytest.raises(ApportionError, match="cannot be rendered here"):
        ChatTemplate("x").render(USER)


def test_a_child_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(ApportionError, match="does not start"):
        ChatTemplate("x").render(USER)


def test_jinja2_is_imported_in_exactly_one_module() -> None:
    importers = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "jinja2" for name in names):
                importers.add(path.name)
    assert importers == {"template_worker.py"}


def test_importing_the_module_does_not_import_jinja2() -> None:
    code = "import sys, apportion.text.chat_template; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_gguf_template_gets_the_texts_of_its_tokens() -> None:
    metadata = byte_level_metadata()
    assert chat_template_from_gguf(metadata) is None
    metadata["tokenizer.chat_template"] = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    template = chat_template_from_gguf(metadata)
    assert template is not None
    assert template.render(USER) == "<|endoftext|>Hi<|im_end|>"
    metadata["tokenizer.chat_template.tool_use"] = "tools"
    both = chat_template_from_gguf(metadata)
    assert both is not None
    assert both.render(USER, tools=TOOLS) == "tools"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer.chat_template", 7),
        ("tokenizer.chat_template.tool_use", ["x"]),
        ("tokenizer.ggml.bos_token_id", -1),
        ("tokenizer.ggml.bos_token_id", 10**9),
        ("tokenizer.ggml.eos_token_id", "1"),
    ],
)
def test_a_broken_gguf_template_is_a_bad_file(key: str, value: object) -> None:
    metadata = byte_level_metadata() | {"tokenizer.chat_template": "x", key: value}
    with pytest.raises(BadFile):
        chat_template_from_gguf(metadata)


def test_a_folder_names_its_template_in_three_ways(tmp_path: Path) -> None:
    assert chat_template_from_folder(tmp_path) is None
    config: dict[str, Any] = {
        "bos_token": {"content": "<b>"},
        "eos_token": "<e>",
        "chat_template": "{{ bos_token }}",
    }
    write_folder(tmp_path, tokenizer_config_json=config)
    first = chat_template_from_folder(tmp_path)
    assert first is not None
    assert first.render(USER) == "<b>"
    named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
    write_folder(tmp_path, tokenizer_config_json={**config, "chat_template": named})
    second = chat_template_from_folder(tmp_path)
    assert second is not None
    assert (second.source, second.tool_use) == ("D", "T")
    write_folder(tmp_path, chat_template_jinja=b"F{{ eos_token }}")
    third = chat_template_from_folder(tmp_path)
    assert third is not None
    assert third.render(USER) == "F<e>"
    assert third.tool_use == "T"


@pytest.mark.parametrize(
    "config",
    [[], {"chat_template": 7}, {"chat_template": [{"name": 1}]}, {"chat_template": "x", "bos_token": 5}],
)
def test_a_broken_folder_configuration_is_a_bad_file(config: object, tmp_path: Path) -> None:
    write_folder(tmp_path, tokenizer_config_json=config)
    with pytest.raises(BadFile):
        chat_template_from_folder(tmp_path)


def test_a_template_file_is_bounded_and_must_be_text(tmp_path: Path) -> None:
    write_folder(tmp_path, chat_template_jinja=b"\xff\xfe")
    with pytest.raises(BadFile, match="not UTF-8"):
        chat_template_from_folder(tmp_path)
    write_folder(tmp_path, chat_template_jinja=b"x" * (2 << 20))
    with pytest.raises(LimitExceeded):
        chat_template_from_folder(tmp_path)


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[0].tool_calls[0].function.arguments.a }}",
        "{{ 'a' + messages[0]['tool_calls'][0]['function']['arguments'] }}",
        "{{ messages[0]['content'] + 'a' }}",
        "{{ messages[0]['content'] + messages[0]['tool_calls'][0]['function']['arguments'] }}",
    ],
)
def test_calls_are_rendered_by_templates_that_want_them_as_objects_or_as_texts(source: str) -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": "a"}'}}
    template = ChatTemplate(source)
    assert "a" in template.render([{"role": "assistant", "content": None, "tool_calls": [call]}])
    template.close()


def test_a_template_that_fails_with_calls_in_every_shape_says_why_it_failed_first() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    template = ChatTemplate("{{ 1 + messages[0].tool_calls[0].function.arguments }}")
    with pytest.raises(TemplateError, match="dict"):
        template.render([{"role": "assistant", "content": "", "tool_calls": [call]}])
    template.close()
