"""How likely a model finds what may follow texts. Many texts pass the model together, each text once: what
follows it is computed after it, one choice after the other, in the place of the one before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from apportion.bench.windows import CHUNK, log_normalizers, row_runs
from apportion.core.errors import NotFinite
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model

LANES = 8  # texts on their way together


@dataclass(frozen=True, slots=True)
class Group:
    """A text and what may follow it.

    Attributes:
        context: token ids [n] int32, at least one.
        choices: token ids of each, at least one.
    """

    context: Ints
    choices: tuple[Ints, ...]

    @property
    def num_positions(self) -> int:
        """That it takes in a context: the last token of a choice is only looked up."""
        return len(self.context) + max(map(len, self.choices)) - 1

    @property
    def num_tokens(self) -> int:
        """That are computed."""
        return len(self.context) + sum(len(choice) - 1 for choice in self.choices)


@dataclass(slots=True)
class Score:
    """Of one choice.

    Attributes:
        logprob: natural logarithm of its probability after its context.
        greedy: whether it is what the model would say, token by token.
    """

    logprob: float = 0.0
    tokens: int = 0
    greedy: bool = True

    def add(self, logprob: float, likeliest: bool) -> None:
        self.logprob += logprob
        self.tokens += 1
        self.greedy = self.greedy and likeliest


# For a row of logits, whose next token is looked up in it: the choice, and the token.
Targets = list[tuple[int, int]]


@dataclass(slots=True)
class Lane:
    """A group on its way through a cache."""

    number: int
    group: Group
    cache: KvCache
    scores: list[Score] = field(init=False)
    _feeds: list[tuple[int, Ints, list[Targets]]] = field(init=False)
    _done: int = 0  # tokens of the first feed

    def __post_init__(self) -> None:
        self.scores = [Score() for _ in self.group.choices]
        self._feeds = feeds_of(self.group)

    @property
    def finished(self) -> bool:
        return not self._feeds

    def next(self, most: int) -> tuple[Ints, list[Targets]]:
        """Tokens that are to be computed now, and what is looked up after each."""
        start, ids, targets = self._feeds[0]
        if self._done == 0:
            self.cache.truncate(start)
        part = slice(self._done, self._done + min(most, self.cache.tokens_at_once or most))
        return ids[part], targets[part]

    def advance(self, num_tokens: int) -> None:
        """They are computed."""
        self.cache.advance(num_tokens)
        self._done += num_tokens
        if self._done == len(self._feeds[0][1]):
            self._feeds.pop(0)
            self._done = 0


def feeds_of(group: Group) -> list[tuple[int, Ints, list[Targets]]]:
    """What passes the model for a group: from which position on, which tokens, and what is looked up after
    each of them.
    """
    before: list[Targets] = [[] for _ in group.context]
    before[-1] = [(place, int(choice[0])) for place, choice in enumerate(group.choices)]
    feeds = []
    for place, choice in enumerate(group.choices):
        targets: list[Targets] = [[(place, int(token))] for token in choice[1:]]
        if place == 0:
            feeds.append((0, np.concatenate([group.context, choice[:-1]]), before + targets))
        elif targets:
            feeds.append((len(group.context), choice[:-1], targets))
    return feeds


def likelihoods(
    model: Model,
    groups: Sequence[Group],
    *,
    kv: str,
    lanes: int = LANES,
    tokens: int = CHUNK,
    on_group: Callable[[int, list[Score]], None] | None = None,
) -> list[list[Score]]:
    """Scores of the choices of each group.

    Args:
        kv: KV codec.
        lanes: so many groups are on their way together.
        tokens: so many pass the model at once.
        on_group: told the number of each group that is done, with its scores.

    Raises:
        NotFinite: the model computed a likelihood that is no number.
    """
    capacity = max(group.num_positions for group in groups)
    free = [model.new_cache(capacity, kv) for _ in range(min(lanes, len(groups)))]
    found: list[list[Score]] = [[] for _ in groups]
    waiting = iter(enumerate(groups))
    running: list[Lane] = []
    while True:
        for number, group in islice(waiting, len(free)):
            running.append(Lane(number, group, free.pop()))
        if not running:
            return found
        step(model, running, capacity, tokens)
        for lane in [lane for lane in running if lane.finished]:
            running.remove(lane)
            free.append(lane.cache)
            found[lane.number] = lane.scores
            if on_group is not None:
                on_group(lane.number, lane.scores)


def step(model: Model, lanes: Sequence[Lane], capacity: int, left: int) -> None:
    """One pass of the model over the next tokens of lanes, at most `left`."""
    parts: list[tuple[Lane, Ints, list[Targets]]] = []
    for lane in lanes:
        if left:
            ids, targets = lane.next(left)
            parts.append((lane, ids, targets))
            left -= len(ids)
    batch = [lane.cache.segment(len(ids)) for lane, ids, _ in parts]
    ids = np.concatenate([ids for _, ids, _ in parts])
    states = model.run(ids, batch, want="hidden", context=capacity)
    looked_up = [(lane, targets) for lane, _, of in parts for targets in of]
    rows = [row for row, (_, targets) in enumerate(looked_up) if targets]
    look_up(model, states[rows], [looked_up[row] for row in rows])
    for lane, ids, _ in parts:
        lane.advance(len(ids))


def look_up(model: Model, states: Floats, wanted: Sequence[tuple[Lane, Targets]]) -> None:
    """Add the targets' log-probabilities after hidden states [n, H] to their scores."""
    for rows in row_runs(len(states), model.config.vocab_size):
        logits = model.head(states[rows])
        normalizers, best = log_normalizers(logits), logits.argmax(axis=1)
        if not np.isfinite(normalizers).all():
            raise NotFinite(
                "the likelihood of a token is no number",
                "the model computed NaN or infinity",
                "a damaged file computes such numbers; `apportion verify` checks it",
            )
        for row, (lane, targets) in enumerate(wanted[rows]):
            for choice, token in targets:
                logprob = float(logits[row, token] - normalizers[row])
                lane.scores[choice].add(logprob, bool(best[row] == token))
