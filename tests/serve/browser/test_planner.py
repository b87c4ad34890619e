"""Another budget is tried, and its forecast follows."""

from __future__ import annotations

import re
from typing import Any


def test_the_forecast_follows_the_slider(visit: Any) -> None:
    page = visit.go("planner")
    entry = page.get_by_label("Budget as text")
    page.get_by_text("Experts in memory").wait_for()
    before = entry.input_value()
    page.get_by_role("slider").focus()
    for _ in range(60):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("before => document.querySelector('.budget input').value !== before", arg=before)
    page.locator(".planner-outcome:not(.is-asking)").wait_for()
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == entry.input_value()
    figures = page.locator(".planner-outcome .figures").inner_text()
    assert len(re.findall(r"\d tok/s", figures)) >= 2
    assert "reckoned with" in page.locator(".planner-outcome").inner_text()


def test_a_budget_that_is_too_small_names_the_smallest_that_does(visit: Any) -> None:
    page = visit.go("planner")
    entry = page.get_by_label("Budget as text")
    entry.fill("20 MiB")
    entry.press("Enter")
    refusal = page.locator(".refusal")
    refusal.wait_for()
    assert "does not fit" in refusal.inner_text()
    page.get_by_role("button", name="the smallest that does").click()
    page.get_by_text("How it would be divided").wait_for()
    assert page.get_by_role("img", name="Planned memory").count() == 1


def test_what_is_no_size_is_not_asked_for(visit: Any) -> None:
    page = visit.go("planner")
    page.get_by_text("How it would be divided").wait_for()
    asked: list[str] = []
    page.get_by_label("Budget as text").fill("plenty")
    page.on("request", lambda request: asked.append(request.post_data or ""))
    page.keyboard.press("Tab")
    assert "Write a size" in page.locator(".budget").inner_text()
    assert not [body for body in asked if "plenty" in body]
