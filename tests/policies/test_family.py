"""What holds for every policy of every family, whoever adds one."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import pytest

import apportion
from apportion.core.errors import NotFound, UsageError
from apportion.policies import EXPERT_CACHES, FAMILIES
from apportion.policies.family import Policy, PolicyFamily

EVERY = [(family, name) for family in FAMILIES for name in family]
every_policy = pytest.mark.parametrize(("family", "name"), EVERY, ids=[f"{f.folder}.{n}" for f, n in EVERY])


@every_policy
def test_a_policy_says_what_it_decides_where_it_comes_from_and_what_it_spends(
    family: PolicyFamily[Policy], name: str
) -> None:
    policy = family.get(name)
    assert len(policy.sentence()) > 20
    assert not policy.sentence().startswith("Source")
    assert "Source:" in (type(policy).__doc__ or "")
    assert len(policy.source()) > 20
    assert policy.budget
    assert isinstance(policy.lossless, bool)


@every_policy
def test_a_policy_is_frozen_data_and_equal_to_another_with_the_same_parameters(
    family: PolicyFamily[Policy], name: str
) -> None:
    policy = family.get(name)
    words = ":".join([name, *(f"{key}={value}".lower() for key, value in policy.parameters().items())])
    assert family.choose(words) == policy == family.choose(name)
    assert dataclasses.is_dataclass(policy)
    assert hash(policy) == hash(family.choose(words))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.folder)
def test_the_baseline_is_an_entry_like_any_other(family: PolicyFamily[Policy]) -> None:
    assert family.baseline in family


def test_parameters_are_read_as_what_they_are() -> None:
    assert EXPERT_CACHES.choose("lfu-aged:half_life=8").parameters() == {"half_life": 8.0}
    assert EXPERT_CACHES.choose("lfu:while_resident=true").parameters() == {"while_resident": True}
    assert EXPERT_CACHES.choose("random:seed=7").parameters() == {"seed": 7}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lfu_aged:half_lief=8", r"unknown parameter of lfu_aged 'half_lief'.*did you mean 'half_life'"),
        ("lfu_aged:half_life=long", r"'half_life=long' sets no parameter: it takes a number"),
        ("lfu_aged:half_life", "it takes a number"),
        ("lfu_aged:half_life=0", "at least"),
        ("lfu_aged:half_life=nan", "at least"),
        ("lfu:while_resident=perhaps", "it takes true or false"),
        ("random:seed=1.5", "it takes a whole number"),
        ("belady:future=3", "unknown parameter"),
        ("lru:", "unknown parameter"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        EXPERT_CACHES.choose(text)


def test_an_unknown_policy_suggests_the_closest() -> None:
    with pytest.raises(NotFound, match=r"unknown expert cache 'lfu_age'.*did you mean 'lfu_aged'"):
        EXPERT_CACHES.choose("lfu_age")


def test_no_module_names_a_concrete_policy() -> None:
    source = Path(apportion.__file__).parent
    entries = {f"apportion.policies.{family.folder}.{name}" for family, name in EVERY}
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported = {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                imported = {alias.name for alias in node.names}
            else:
                continue
            assert not imported & entries, path
