"""A task's accuracy by a model: what it finds likeliest against what is right."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from apportion.bench.tasks.items import Item, Task
from apportion.bench.tasks.likelihood import LANES, Group, Score, likelihoods
from apportion.bench.windows import CHUNK
from apportion.core.errors import ContextOverflow
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import Model
    from apportion.text.tokenizer import Tokenizer

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Share:
    """A share of items, with its interval of 95% confidence (E. B. Wilson, JASA 22, 1927) and its standard
    error as `lm-eval` has it.
    """

    value: float
    low: float
    high: float
    stderr: float

    @classmethod
    def of(cls, hits: int, count: int) -> Share:
        value = hits / count
        stretch = 1 + Z95**2 / count
        middle = (value + Z95**2 / (2 * count)) / stretch
        half = Z95 / stretch * math.sqrt(value * (1 - value) / count + Z95**2 / (4 * count**2))
        error = math.sqrt(value * (1 - value) / (count - 1)) if count > 1 else 0.0
        return cls(value, max(0.0, middle - half), min(1.0, middle + half), error)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model made of an item.

    Attributes:
        logprobs: of each choice.
        choice: the likeliest.
        choice_norm: the likeliest by the length of its text; None where lengths do not differ.
        right, right_norm: whether that is right; of an item without choices, whether the model would have
            said it.
    """

    logprobs: tuple[float, ...]
    choice: int
    choice_norm: int | None
    right: bool
    right_norm: bool | None


@dataclass(frozen=True, slots=True)
class Judged:
    """A task's figures.

    Attributes:
        accuracy_norm: with log-probabilities divided by the characters of a choice; None where the same text
            follows several contexts, and where there is nothing to choose from.
        perplexity: of what there is nothing to choose from; exp of the mean negative log-probability of an
            item's whole text. None for others.
        tokens: that were computed.
    """

    task: str
    items: int
    accuracy: Share
    accuracy_norm: Share | None
    perplexity: float | None
    tokens: int
    seconds: float
    answers: Sequence[Answer]


def judge(
    model: Model,
    tokenizer: Tokenizer,
    task: Task,
    *,
    kv: str = DEFAULT,
    ctx: int | None = None,
    lanes: int = LANES,
    tokens: int = CHUNK,
    bos: bool = True,
    on_item: Callable[[int, int, float], None] | None = None,
) -> Judged:
    """Have a model answer a task.

    Args:
        ctx: positions that there is room for; None: as many as the longest item needs.
        lanes, tokens: as in `likelihood.likelihoods`.
        bos: texts begin with the beginning-of-sequence token, if the model has one.
        on_item: called with items done, items in all, and the accuracy so far.

    Raises:
        ContextOverflow: an item is longer than the context; nothing was computed.
        NotFinite: as in `likelihood.likelihoods`.
    """
    begin = time.perf_counter()
    begin_ids = [tokenizer.bos_id] if bos and tokenizer.bos_id is not None and tokenizer.adds_bos else []
    by_item = [groups_of(item, tokenizer, begin_ids) for item in task.items]
    check_lengths(task, by_item, ctx)
    sheet = Sheet(task, [len(groups) for groups in by_item], on_item)
    groups = [group for groups in by_item for group in groups]
    likelihoods(model, groups, kv=kv, lanes=lanes, tokens=tokens, on_group=sheet.take)
    computed = sum(group.num_tokens for group in groups)
    return judged(task, sheet.answers, computed, time.perf_counter() - begin)


# --- from items to tokens ---


def groups_of(item: Item, tokenizer: Tokenizer, begin: Sequence[int] = ()) -> list[Group]:
    """Choices after the same tokens are one group. `begin`: tokens before all of them."""
    pairs = [encoded(context, choice, tokenizer, begin) for context, choice in item.pairs]
    if len(item.contexts) > 1:
        return [Group(context, (choice,)) for context, choice in pairs]
    return [Group(pairs[0][0], tuple(choice for _, choice in pairs))]


def encoded(context: str, choice: str, tokenizer: Tokenizer, begin: Sequence[int] = ()) -> tuple[Ints, Ints]:
    """Token ids of a context and of what follows, cut where the context's own end: as `lm-eval` cuts."""
    before = tokenizer.encode(context, add_special=False)
    after = tokenizer.encode(context + choice, add_special=False)[len(before) :]
    return np.array([*begin, *before], np.int32), np.array(after or before[-1:], np.int32)


def check_lengths(task: Task, by_item: Sequence[Sequence[Group]], ctx: int | None) -> None:
    """
    Raises:
        ContextOverflow: an item is longer than the context.
    """
    for number, groups in enumerate(by_item, 1):
        longest = max(group.num_positions for group in groups)
        if ctx is not None and longest > ctx:
            raise ContextOverflow(
                f"item {number} of {task.name} is longer than the context",
                hint="give a larger --ctx; items are never cut",
                tokens=longest,
                context=ctx,
            )


# --- from scores to figures ---


class Sheet:
    """Answers to a task's items, as their groups come in."""

    def __init__(
        self, task: Task, num_groups: Sequence[int], on_item: Callable[[int, int, float], None] | None
    ) -> None:
        self._task = task
        self._items = [item for item, count in enumerate(num_groups) for _ in range(count)]
        self._firsts = [0, *accumulate(num_groups)]
        self._scores: list[list[Score]] = [[] for _ in self._items]
        self._left = list(num_groups)
        self._answers: dict[int, Answer] = {}
        self._num_right = 0
        self._on_item = on_item

    @property
    def answers(self) -> list[Answer]:
        """In the order of the items."""
        return [self._answers[item] for item in range(len(self._task.items))]

    def take(self, number: int, scores: list[Score]) -> None:
        """The scores of a group's choices."""
        item = self._items[number]
        self._scores[number] = scores
        self._left[item] -= 1
        if self._left[item]:
            return
        groups = self._scores[self._firsts[item] : self._firsts[item + 1]]
        found = answer(self._task.items[item], [score for group in groups for score in group])
        self._answers[item] = found
        self._num_right += found.right
        if self._on_item is not None:
            done = len(self._answers)
            self._on_item(done, len(self._task.items), self._num_right / done)


def answer(item: Item, scores: Sequence[Score]) -> Answer:
    """What scores of its choices say of an item; the first of equal ones is chosen."""
    logprobs = tuple(score.logprob for score in scores)
    if item.gold is None:
        return Answer(logprobs, 0, None, scores[0].greedy, None)
    best = int(np.argmax(logprobs))
    if len(item.contexts) > 1:
        return Answer(logprobs, best, None, best == item.gold, None)
    by_length = [logprob / len(choice) for logprob, choice in zip(logprobs, item.choices, strict=True)]
    best_norm = int(np.argmax(by_length))
    return Answer(logprobs, best, best_norm, best == item.gold, best_norm == item.gold)


def judged(task: Task, answers: Sequence[Answer], tokens: int, seconds: float) -> Judged:
    """Figures of all answers."""
    count = len(answers)
    normed = [one.right_norm for one in answers if one.right_norm is not None]
    loss = -sum(one.logprobs[0] for one in answers) / count
    return Judged(
        task=task.name,
        items=count,
        accuracy=Share.of(sum(one.right for one in answers), count),
        accuracy_norm=Share.of(sum(normed), len(normed)) if normed else None,
        perplexity=None if task.has_choices else math.exp(loss),
        tokens=tokens,
        seconds=seconds,
        answers=answers,
    )
