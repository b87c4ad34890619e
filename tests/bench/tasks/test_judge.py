"""Accuracy of a task, from scores that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from apportion.bench.tasks.items import Item, Task
from apportion.bench.tasks.judge import Share, answer, encoded, groups_of, judge
from apportion.bench.tasks.likelihood import Score
from apportion.core.errors import ContextOverflow

ITEMS = [
    Item(("the rain in",), ("spain", "vain again and again"), 0),
    Item(("a b c",), ("d", "e", "f"), 2),
    Item(("stays mainly",), ("in the plain", "on the hills"), 1),
]


def test_the_interval_is_wilsons() -> None:
    share = Share.of(7, 10)
    assert (share.value, share.low, share.high) == pytest.approx((0.7, 0.3968, 0.8922), abs=1e-4)
    assert share.stderr == pytest.approx(np.std([1] * 7 + [0] * 3, ddof=1) / math.sqrt(10))
    none, all_ = Share.of(0, 5), Share.of(5, 5)
    assert (none.low, all_.high) == (0, 1)
    assert none.high == pytest.approx(0.4345, abs=1e-4)
    assert Share.of(1, 1).stderr == 0


def test_the_likeliest_is_chosen_and_by_length_another_may_be() -> None:
    found = answer(Item(("c",), ("ab", "abcdefgh"), 1), [Score(-4.0), Score(-5.0)])
    assert (found.choice, found.choice_norm, found.right, found.right_norm) == (0, 1, False, True)
    assert found.logprobs == (-4.0, -5.0)


def test_the_same_text_after_several_contexts_has_no_normalised_choice() -> None:
    found = answer(Item(("c", "d"), ("ab",), 1), [Score(-4.0), Score(-3.0)])
    assert (found.choice, found.choice_norm, found.right, found.right_norm) == (1, None, True, None)


def test_without_choices_it_counts_what_the_model_says() -> None:
    item = Item(("c",), ("ab",), None)
    assert answer(item, [Score(-4.0, 2, True)]).right
    assert not answer(item, [Score(-4.0, 2, False)]).right


def test_a_text_is_cut_where_the_contexts_own_tokens_end(tiny) -> None:
    context, choice = encoded("ab", " cd", tiny.tokenizer, [7])
    assert [*context, *choice] == [7, *tiny.tokenizer.encode("ab cd", add_special=False)]
    assert tiny.tokenizer.decode(choice, continues=True) == " cd"


def test_choices_after_one_text_are_one_group(tiny) -> None:
    assert [len(group.choices) for group in groups_of(ITEMS[1], tiny.tokenizer)] == [3]
    several = groups_of(Item(("a", "bb"), ("c",), 0), tiny.tokenizer)
    assert [len(group.choices) for group in several] == [1, 1]


def test_a_task_is_judged_item_by_item_whatever_is_computed_together(tiny) -> None:
    told = []
    task = Task("t", [*ITEMS, Item(("x y", "x z"), ("w",), 0)])
    one = judge(tiny.model, tiny.tokenizer, task, lanes=1, on_item=lambda *event: told.append(event))
    four = judge(tiny.model, tiny.tokenizer, task, lanes=4, tokens=13)
    assert one.answers == four.answers
    assert one.accuracy.value == sum(one.right for one in one.answers) / 4
    assert one.accuracy_norm is not None
    assert one.perplexity is None
    assert [event[:2] for event in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert told[-1][2] == one.accuracy.value


def test_texts_begin_as_the_model_expects_unless_they_shall_not(tiny) -> None:
    assert tiny.tokenizer.adds_bos
    task = Task("t", ITEMS)
    with_bos, without = (judge(tiny.model, tiny.tokenizer, task, bos=bos) for bos in (True, False))
    assert with_bos.tokens == without.tokens + len(ITEMS)
    assert with_bos.answers != without.answers


def test_texts_without_choices_have_a_perplexity(tiny) -> None:
    task = Task("t", [Item(("ab",), ("c",), None), Item(("de",), ("f g",), None)])
    found = judge(tiny.model, tiny.tokenizer, task)
    assert found.perplexity == pytest.approx(math.exp(-np.mean([one.logprobs[0] for one in found.answers])))
    assert found.accuracy_norm is None


def test_an_item_longer_than_the_context_is_refused_before_anything_is_computed(tiny) -> None:
    with pytest.raises(ContextOverflow) as caught:
        judge(tiny.model, tiny.tokenizer, Task("t", ITEMS), ctx=8)
    assert caught.value.numbers["context"] == 8
    assert "item 1 of t" in str(caught.value)
