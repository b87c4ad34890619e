"""The chat streams, stops, tells what an answer took, and trusts no word of a model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.serve.running import Running

from apportion.serve.pump import Pump

STEP_S = 0.06  # long enough for a person's hand

HOSTILE = """# A heading

<script>document.title = 'taken'</script>
<img src="https://example.org/x.png" onerror="document.title='taken'">
<a href="javascript:document.title='taken'">one</a>

![a picture](https://example.org/y.png) [two](javascript:alert) [three](https://example.org/)
<form action="https://example.org/"><input></form><style>body { display: none }</style>

```python
print("<b>not bold</b>")
```
"""


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model would have said everything before a button could be pressed."""
    step: Callable[[Pump, Any], None] = Pump._step

    def slowly(pump: Pump, engine: Any) -> None:
        time.sleep(STEP_S)
        step(pump, engine)

    monkeypatch.setattr(Pump, "_step", slowly)


def streamed(*deltas: dict[str, str], error: str | None = None) -> str:
    """An answer on the wire."""
    chunks: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    if error is not None:
        chunks.append({"error": {"message": error, "code": "internal_error"}})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def say(page: Any, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.keyboard.press("Enter")


def answers_with(page: Any, body: str) -> None:
    page.route(
        "**/v1/chat/completions",
        lambda route: route.fulfill(body=body, headers={"content-type": "text/event-stream"}),
    )


def test_an_answer_streams_and_tells_what_it_took(visit: Any, unhurried: None) -> None:
    page = visit.go("chat")
    page.get_by_label("Most tokens").fill("24")
    page.get_by_label("Seed").fill("3")
    say(page, "Hello")
    page.get_by_role("button", name="Stop").wait_for()
    took = page.locator(".took")
    took.wait_for()
    words = took.inner_text().split("\n")
    assert {"First token", "Prefill", "Decode", "Prompt", "Answer"} <= set(words)
    assert page.locator(".turn").count() == 2
    assert page.locator("#message").evaluate("area => document.activeElement === area")


def test_stop_ends_the_answer_here_and_at_the_server(visit: Any, mixture: Running, unhurried: None) -> None:
    page = visit.go("chat")
    page.get_by_label("Most tokens").fill("110")
    say(page, "Hello")
    page.locator(".turn.is-assistant .markdown").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped").wait_for()
    page.get_by_role("button", name="Send").wait_for()
    page.wait_for_timeout(300)
    assert mixture.site.pump.answers() == []


def test_a_refusal_of_the_server_is_shown_plainly(visit: Any) -> None:
    page = visit.go("chat")
    page.get_by_label("Temperature").fill("-3")
    say(page, "Hello")
    assert "temperature" in page.get_by_role("alert").inner_text()


def test_an_answer_that_breaks_off_keeps_its_words_and_says_why(visit: Any) -> None:
    page = visit.go("chat")
    answers_with(page, streamed({"content": "Half of"}, error="the server failed"))
    say(page, "Hello")
    assert "the server failed" in page.get_by_role("alert").inner_text()
    assert "Half of" in page.locator(".turn.is-assistant .markdown").inner_text()


def test_a_model_s_words_can_do_nothing(visit: Any) -> None:
    page = visit.go("chat")
    answers_with(page, streamed({"reasoning_content": "I think."}, {"content": HOSTILE}))
    say(page, "Hello")
    answer = page.locator(".turn.is-assistant")
    answer.locator(".code-block").wait_for()
    assert answer.locator("script, img, form, style, input, [onerror], [style]").count() == 0
    links = answer.locator("a[href]")
    assert [links.nth(index).get_attribute("href") for index in range(links.count())] == [
        "https://example.org/"
    ]
    assert "<script>document.title" in answer.inner_text()
    assert "a picture" in answer.inner_text()
    assert "noopener" in links.first.get_attribute("rel")
    assert answer.locator("pre").inner_text().strip() == 'print("<b>not bold</b>")'
    assert page.title().startswith("Chat")
    assert not answer.get_by_text("I think.").is_visible()
    answer.get_by_text("Reasoning").click()
    assert answer.get_by_text("I think.").is_visible()


def test_a_conversation_is_exported_and_cleared(visit: Any, tmp_path: Path) -> None:
    page = visit.go("chat")
    answers_with(page, streamed({"content": "Hello yourself."}))
    page.get_by_label("System prompt").fill("Be brief.")
    say(page, "Hello")
    page.locator(".turn-foot").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    download.value.save_as(tmp_path / "conversation.json")
    kept = json.loads((tmp_path / "conversation.json").read_text(encoding="utf-8"))
    assert [message["role"] for message in kept["messages"]] == ["system", "user", "assistant"]
    assert kept["messages"][2]["content"] == "Hello yourself."
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".turn").count() == 0
    stored = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "Hello" not in stored
