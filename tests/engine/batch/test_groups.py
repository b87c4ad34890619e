"""Grouping by shared prefixes: exact counts of what is computed, and the order of groups."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.engine.batch.groups import Group, computed_tokens, grouped


def prompts(*texts: str) -> list[np.ndarray]:
    return [np.frombuffer(text.encode(), np.uint8).astype(np.int32) for text in texts]


def of(texts: list[str], outputs: list[int] | None = None, block_tokens: int = 1) -> tuple[list[Group], int]:
    ids = prompts(*texts)
    groups = grouped(ids, outputs or [1] * len(texts), block_tokens)
    assert sorted(place for group in groups for place in group.members) == list(range(len(texts)))
    for group in groups:
        shared = {texts[place][: group.prefix_tokens] for place in group.members}
        assert len(shared) == 1
    return groups, computed_tokens(ids, groups)


def test_requests_that_share_nothing_stay_alone() -> None:
    groups, computed = of(["abc", "def", "ghi"])
    assert [group.prefix_tokens for group in groups] == [0, 0, 0]
    assert computed == 9


def test_a_shared_prefix_is_computed_once() -> None:
    groups, computed = of(["system: one", "other", "system: two", "system: three"])
    assert [sorted(group.members) for group in groups if group.prefix_tokens] == [[0, 2, 3]]
    assert computed == 8 + 3 + 3 + 5 + 5


def test_prefixes_count_in_whole_blocks_and_the_last_token_is_never_shared() -> None:
    assert of(["a" * 70, "a" * 70 + "b"], block_tokens=32)[1] == 64 + 6 + 7
    assert of(["a" * 64, "a" * 64], block_tokens=32)[1] == 32 + 32 + 32
    assert of(["abc", "abc", "abc"])[1] == 2 + 3


def test_of_prefixes_of_prefixes_the_cut_is_taken_that_saves_most() -> None:
    # Two pairs that share much each, and little with each other: two groups.
    groups, computed = of(["xAAAAAAAA1", "xAAAAAAAA2", "xBBBBBBBB1", "xBBBBBBBB2"])
    assert sorted(group.prefix_tokens for group in groups) == [9, 9]
    assert computed == 2 * (9 + 2)
    # Pairs that share little beyond what all share: one group.
    groups, computed = of(["xxxxxxxxA1", "xxxxxxxxA2", "xxxxxxxxB1", "xxxxxxxxB2"])
    assert [group.prefix_tokens for group in groups] == [8]
    assert computed == 8 + 4 * 2


def test_a_crowd_shares_what_is_common_while_its_long_lived_pair_stays_apart() -> None:
    texts = [f"ab{letter}" for letter in "cdefgh"] + ["ab" + "z" * 50 + "1", "ab" + "z" * 50 + "2"]
    groups, computed = of(texts)
    assert sorted((group.prefix_tokens, len(group.members)) for group in groups) == [(2, 6), (52, 2)]
    assert computed == 2 + 6 + 52 + 2


def test_groups_with_long_answers_for_their_prompts_come_first() -> None:
    texts = ["p" * 40 + "1", "p" * 40 + "2", "short", "q" * 9 + "1", "q" * 9 + "2"]
    groups, _ = of(texts, outputs=[10, 10, 100, 50, 30])
    assert [set(group.members) for group in groups] == [{2}, {3, 4}, {0, 1}]


def test_members_that_have_more_in_common_are_neighbours() -> None:
    texts = ["xxxxxxxxB1", "xxxxxxxxA1", "xxxxxxxxB2", "xxxxxxxxA2"]
    (group,), _ = of(texts)
    assert [texts[place][8] for place in group.members] in (list("AABB"), list("BBAA"))


def test_sixty_four_prompts_over_four_prefixes_compute_each_prefix_once() -> None:
    rng = np.random.default_rng(5)
    heads = [rng.integers(0, 99, 512) for _ in range(4)]
    ids = [np.append(heads[i % 4], rng.integers(0, 99, 20)).astype(np.int32) for i in range(64)]
    groups = grouped(ids, [10] * 64)
    assert [(group.prefix_tokens, len(group.members)) for group in groups] == [(512, 16)] * 4
    assert computed_tokens(ids, groups) == 4 * 512 + 64 * 20


def test_a_chain_of_ten_thousand_prefixes_is_planned_quickly() -> None:
    whole = np.arange(10_000, dtype=np.int32)
    ids = [whole[: n + 2] for n in range(0, 10_000, 8)]
    groups = grouped(ids, [1] * len(ids), 8)
    assert computed_tokens(ids, groups) < sum(map(len, ids))


def test_no_requests_make_no_groups() -> None:
    assert grouped([], []) == []


@settings(max_examples=200)
@given(st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=5))
def test_no_way_to_share_one_prefix_each_computes_less_where_subtrees_stay_together(texts: list[str]) -> None:
    _, computed = of(texts)
    assert computed <= sum(map(len, texts))
    assert computed >= len({text[:n] for text in texts for n in range(1, len(text))}) + len(texts)
    assert computed <= min(everything_at(texts, depth) for depth in range(6))


def everything_at(texts: list[str], depth: int) -> int:
    """Tokens computed where all group by their first `depth` tokens, as far as those can be shared."""
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(text[:depth] if len(text) > depth else f"alone {len(groups)}", []).append(text)
    return sum(map(len, texts)) - sum((len(group) - 1) * depth for group in groups.values())


@pytest.mark.parametrize("depths", list(product((2, 6), repeat=3)))
def test_the_saving_is_that_of_the_best_assignment_in_trees_of_two_levels(depths: tuple[int, ...]) -> None:
    top = "t" * depths[0]
    texts = [top + "u" * depths[1] + "1", top + "u" * depths[1] + "2", top + "v", top + "w" * depths[2] + "1"]
    best = min(
        computed_tokens(prompts(*texts), [Group(len(top) if len(rest) > 1 else 0, rest), *pair])
        for rest, pair in (
            ((0, 1, 2, 3), ()),
            ((2, 3), (Group(len(top) + depths[1], (0, 1)),)),
        )
    )
    assert of(texts)[1] == best
