from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from apportion.core import registry as registry_module
from apportion.core.errors import NotFound, UsageError
from apportion.core.registry import Registry, discover, module_names

MODULE = "THING = {value!r}\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An importable package with two things and a private module."""
    name = "shelf_of_things"
    folder = tmp_path / name
    folder.mkdir()
    for module, value in (
        ("__init__", "init"),
        ("lru", "least recent"),
        ("first_come", "fcfs"),
        ("_base", "x"),
    ):
        (folder / f"{module}.py").write_text(MODULE.format(value=value))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        del sys.modules[module]


@pytest.fixture
def registry(package: str) -> Registry[str]:
    return Registry("policy", package, "THING", str, group="apportion.things")


def offer(monkeypatch: pytest.MonkeyPatch, *entries: tuple[str, str]) -> None:
    points = [EntryPoint(name, value, "apportion.things") for name, value in entries]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)


def test_a_file_in_the_folder_is_registered_under_its_name(registry: Registry[str]) -> None:
    assert registry.names() == ("first_come", "lru")
    assert registry.get("lru") == "least recent"
    assert registry.get("first-come") == "fcfs"
    assert "lru" in registry
    assert "_base" not in registry
    assert (len(registry), list(registry)) == (2, ["first_come", "lru"])


def test_dropping_a_file_registers_it(registry: Registry[str], package: str, tmp_path: Path) -> None:
    (tmp_path / package / "brand_new.py").write_text(MODULE.format(value="new"))
    assert registry.get("brand_new") == "new"


def test_listing_imports_nothing(registry: Registry[str], package: str, tmp_path: Path) -> None:
    (tmp_path / package / "explosive.py").write_text("raise RuntimeError('imported')")
    assert "explosive" in registry.names()
    assert registry.get("lru") == "least recent"
    assert f"{package}.first_come" not in sys.modules


def test_files_and_packages_are_looked_for_once(
    registry: Registry[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    searches: list[str] = []

    def search(group: str) -> list[EntryPoint]:
        searches.append(group)
        return [EntryPoint("theirs", "string:digits", group)]

    monkeypatch.setattr(registry_module, "entry_points", search)
    for _ in range(3):
        assert registry.names() == ("first_come", "lru", "theirs")
        assert registry.get("theirs") == "0123456789"
    assert searches == ["apportion.things"]


def test_an_unknown_name_suggests_the_closest(registry: Registry[str]) -> None:
    with pytest.raises(NotFound, match=r"unknown policy 'lur'.*did you mean 'lru'"):
        registry.get("lur")


def test_a_private_module_cannot_be_asked_for(registry: Registry[str]) -> None:
    with pytest.raises(NotFound):
        registry.get("_base")


def test_a_module_whose_thing_is_of_another_kind_is_our_own_mistake(package: str) -> None:
    with pytest.raises(AssertionError, match=r"lru\.THING is no int"):
        Registry("policy", package, "THING", int).get("lru")


def test_other_packages_add_through_entry_points(
    registry: Registry[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, ("theirs", "string:digits"))
    assert registry.names() == ("first_come", "lru", "theirs")
    assert registry.get("theirs") == "0123456789"


def test_registries_that_share_a_group_tell_theirs_by_the_prefix(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, ("shelf.theirs", "string:digits"), ("drawer.lru", "string:hexdigits"))
    registry = Registry("policy", package, "THING", str, group="apportion.things", prefix="shelf.")
    assert registry.names() == ("first_come", "lru", "theirs")
    assert registry.get("theirs") == "0123456789"


def test_other_packages_cannot_replace_ours(registry: Registry[str], monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, ("lru", "string:digits"))
    assert registry.get("lru") == "least recent"
    with pytest.raises(UsageError, match="two things are called 'lru'"):
        registry.names()


def test_two_other_packages_cannot_share_a_name(
    registry: Registry[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, ("theirs", "string:digits"), ("theirs", "string:hexdigits"))
    with pytest.raises(UsageError, match="two things are called 'theirs'"):
        registry.get("theirs")


@pytest.mark.parametrize("value", ["no_such_module:x", "string:no_such_name", "math:pi"])
def test_a_broken_entry_point_names_the_culprit(
    registry: Registry[str], monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    offer(monkeypatch, ("theirs", value))
    with pytest.raises(UsageError, match=r"'theirs' of another package cannot be loaded") as caught:
        registry.get("theirs")
    assert caught.value.why


def test_a_broken_entry_point_does_not_hurt_the_others(
    registry: Registry[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, ("theirs", "no_such_module:x"))
    assert registry.get("lru") == "least recent"
    assert "theirs" in registry.names()


def test_adding_lasts_as_long_as_its_block(registry: Registry[str]) -> None:
    with registry.adding("lru", "mine"), registry.adding("other", "too"):
        assert registry.get("lru") == "mine"
        assert registry.names() == ("first_come", "lru", "other")
    assert registry.get("lru") == "least recent"
    assert "other" not in registry


def test_discover_imports_everything(package: str) -> None:
    assert discover(package, "THING", str) == {"first_come": "fcfs", "lru": "least recent"}
    assert module_names(package) == ("first_come", "lru")
