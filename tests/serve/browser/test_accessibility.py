"""The page for everybody: keyboards, screen readers, weak eyes, small screens, no motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.serve.running import Running

JUDGE = (Path(__file__).parent / "judge.js").read_text(encoding="utf-8")
PAGES = ("overview", "experts", "requests", "planner", "chat")
PHONE = {"width": 390, "height": 844}


def settled(visit: Any, name: str) -> Any:
    page = visit.go(name)
    if name == "planner":
        page.get_by_text("How it would be divided").wait_for()
    if name == "experts":
        page.locator("canvas").wait_for()
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_names_contrast_and_structure_are_right_on_every_page(
    visits: Any, mixture: Running, scheme: str
) -> None:
    visit = visits(mixture, color_scheme=scheme)
    assert {name: settled(visit, name).evaluate(JUDGE) for name in PAGES} == {name: [] for name in PAGES}


def test_the_same_on_a_phone_and_nothing_scrolls_sideways(visits: Any, mixture: Running) -> None:
    visit = visits(mixture, viewport=PHONE, has_touch=True, is_mobile=True)
    assert {name: settled(visit, name).evaluate(JUDGE) for name in PAGES} == {name: [] for name in PAGES}


def test_the_judge_finds_what_is_wrong(visit: Any) -> None:
    page = visit.go("requests")
    page.evaluate(
        "() => { const main = document.querySelector('main'); main.style.minWidth = '1400px';"
        " main.querySelector('h1').style.color = '#8a948f';"
        " main.append(document.createElement('button'), document.createElement('h4'));"
        " main.lastChild.textContent = 'deep'; main.querySelector('button').style.padding = '20px';"
        " main.querySelector('button').id = 'content' }"
    )
    faults = " ".join(page.evaluate(JUDGE))
    for fault in ("contrast", "no name", "heading skips", "id twice", "sideways"):
        assert fault in faults


def test_everything_is_reached_by_tab_and_the_focus_is_seen(visit: Any) -> None:
    page = settled(visit, "planner")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        focus = page.evaluate(
            "() => { const at = document.activeElement; const style = getComputedStyle(at);"
            " return [at.tagName, at.textContent.trim() || at.getAttribute('aria-label') || at.type,"
            " style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2] }"
        )
        if focus[0] == "BODY":
            break
        reached.append(focus)
    assert [words for tag, words, seen in reached if not seen] == []
    words = [words for _, words, _ in reached]
    assert words[0] == "Skip to content"
    assert words[1:6] == ["Overview", "Experts", "Requests", "Planner", "Chat"]
    assert {"SELECT", "INPUT", "BUTTON", "A"} <= {tag for tag, _, _ in reached}


def test_keys_alone_lead_through_the_whole_page(visit: Any) -> None:
    page = visit.go()
    for number, name in [*enumerate(PAGES[1:], 2), (1, PAGES[0])]:
        page.keyboard.press(str(number))
        page.get_by_role("heading", level=1, name=name.capitalize()).wait_for(state="attached")
        assert page.title() == f"{name.capitalize()} · apportion"
        assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("/")
    page.locator("#message:focus").wait_for()
    page.keyboard.type("1?t")  # what is typed is typed
    assert page.locator("#message").input_value() == "1?t"


def test_shortcuts_are_listed_and_can_be_switched_off(visit: Any) -> None:
    page = visit.go()
    page.keyboard.press("?")
    listed = page.get_by_role("dialog", name="Keyboard shortcuts")
    assert "Change the theme" in listed.inner_text()
    page.get_by_label("Single keys act").uncheck()
    page.keyboard.press("Escape")
    assert not listed.is_visible()
    page.keyboard.press("3")
    assert page.title().startswith("Overview")


def test_the_skip_link_leads_to_the_content(visit: Any) -> None:
    page = visit.go("requests")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    assert page.title().startswith("Requests")


def test_the_theme_is_switched_and_stays(visit: Any) -> None:
    page = visit.go()
    look = "getComputedStyle(document.documentElement).backgroundColor"
    first = page.evaluate(look)
    for wanted in ("Light", "Dark"):
        page.get_by_role("button", name="Theme").click()
        assert wanted in page.get_by_role("button", name="Theme").inner_text()
    assert page.evaluate(look) != first
    dark = page.evaluate(look)
    page.reload()
    page.locator(".connection.is-live").wait_for()
    assert page.evaluate(look) == dark


def test_who_wants_no_motion_gets_none(visit: Any) -> None:
    page = visit.go()
    moving = page.evaluate(
        "[...document.querySelectorAll('*')].map(one => getComputedStyle(one).transitionDuration)"
        ".filter(duration => parseFloat(duration) > 0).length"
    )
    assert moving == 0
