"""How long a step takes: a few figures of a machine and a model, fitted to steps that were measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import UsageError
from apportion.engine.step_log import LoggedItem, LoggedStep, StepLog

Floats: TypeAlias = NDArray[np.float64]

KNEES = tuple(1 << power for power in range(1, 10))
FEWEST_STEPS = 12


@dataclass(frozen=True, slots=True)
class Experts:
    """What a model's layers choose from, where experts are read from disk.

    Attributes:
        count, top_k: experts of a layer, and how many of them a token uses.
        nbytes: of all experts of all layers that are not in memory.
        bandwidth_Bps: at which they are read.
    """

    count: int
    top_k: int
    nbytes: int
    bandwidth_Bps: float  # noqa: N815

    def read_s(self, tokens_by_layer: Sequence[int]) -> float:
        """To read those that so many tokens of each layer use, each chosen as likely as the others."""
        unused = 1 - self.top_k / self.count
        used = sum(1 - unused**tokens for tokens in tokens_by_layer) / len(tokens_by_layer)
        return used * self.nbytes / self.bandwidth_Bps


@dataclass(frozen=True, slots=True)
class StepCost:
    """Seconds of a step.

    Attributes:
        fixed_s: of a pass over all layers, for one over some of them in proportion.
        token_s: of each of the first `knee` tokens; `further_token_s` of each after those: weights are read
            once for all of them, so that computing is what more tokens cost.
        attended_s: of a token and a token before it that it attends to.
        request_s: of each request in the step.
        experts: what is read besides; None where all weights stay in memory.
    """

    fixed_s: float
    token_s: float
    further_token_s: float
    attended_s: float
    request_s: float
    knee: int = 32
    experts: Experts | None = None

    def seconds(self, items: Sequence[LoggedItem], num_layers: int) -> float:
        row = features(items, num_layers, self.knee)
        total = float(row @ np.array([getattr(self, name) for name in COEFFICIENTS]))
        if self.experts is None:
            return total
        return total + self.experts.read_s(tokens_by_layer(items, num_layers))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SMOLLM2 = StepCost(4e-3, 9.7e-4, 8.9e-4, 1e-6, 0.0)
"""As fitted to 378 steps of SmolLM2 135M Q4_1 on two Zen 3 cores, for where nothing was measured."""

SMOLLM2_LAYERS = 30

COEFFICIENTS = tuple(one.name for one in fields(StepCost) if one.name.endswith("_s"))


@dataclass(frozen=True, slots=True)
class Fit:
    """A cost model, and how far it is from steps that it was not fitted to.

    Attributes:
        steps: that were measured.
        median_error, p90_error: of a step, relative to what it took.
        total_error: of all steps together; above 0 where the model says too much.
        residuals: seconds that each step took beyond what the model says.
    """

    cost: StepCost
    steps: int
    median_error: float
    p90_error: float
    total_error: float
    residuals: tuple[float, ...] = ()

    def sentence(self) -> str:
        return (
            f"step times fitted to {self.steps} measured steps; a step that was left out is off by "
            f"{self.median_error:.1%} in the middle, by {self.p90_error:.1%} in 9 of 10, "
            f"all together by {self.total_error:+.1%}"
        )


def fit(log: StepLog, experts: Experts | None = None) -> Fit:
    """The cost model with the smallest relative errors that is right of all steps together; none of its
    figures is below 0. What passes between two steps (sampling, planning, telling clients) belongs to the
    first of them.

    Every other step is left out of a first fit, which is judged by them; the model is then fitted to all.

    Raises:
        UsageError: there are too few steps.
    """
    if len(log.steps) < FEWEST_STEPS:
        raise UsageError(
            "too few steps to fit a cost model to",
            hint="measure a longer run",
            steps=len(log.steps),
            at_least=FEWEST_STEPS,
        )
    steps = with_gaps(log.steps)
    judged = _best(steps[::2], log.num_layers, experts)
    measured, foretold = _seconds(steps[1::2], log.num_layers, judged)
    errors = np.abs(foretold / measured - 1)
    cost = _best(steps, log.num_layers, experts)
    seconds, said = _seconds(steps, log.num_layers, cost)
    return Fit(
        cost,
        len(steps),
        float(np.median(errors)),
        float(np.quantile(errors, 0.9)),
        float(foretold.sum() / measured.sum() - 1),
        tuple((seconds - said).tolist()),
    )


def with_gaps(steps: Sequence[LoggedStep]) -> list[LoggedStep]:
    """Each step until the next one began, where one of its requests went on in that: nobody waited."""
    found = []
    for step, after in pairwise(steps):
        goes_on = {item.request for item in step.items} & {item.request for item in after.items}
        seconds = after.begin_s - step.begin_s if goes_on else step.seconds
        found.append(replace(step, seconds=max(step.seconds, seconds)))
    return [*found, *steps[-1:]]


def features(items: Sequence[LoggedItem], num_layers: int, knee: int) -> Floats:
    """What each of `COEFFICIENTS` is multiplied by, [5]."""
    passing = attended = 0.0
    for item in items:
        share = (item.end_layer - item.first_layer) / num_layers
        passing += share * item.num_tokens
        attended += share * item.num_tokens * (item.num_before + (item.num_tokens + 1) / 2)
    touched = sum(tokens > 0 for tokens in tokens_by_layer(items, num_layers)) / num_layers
    return np.array([touched, min(passing, knee), max(passing - knee, 0.0), attended, len(items)])


def tokens_by_layer(items: Sequence[LoggedItem], num_layers: int) -> list[int]:
    """How many tokens pass each layer."""
    if all(item.first_layer == 0 and item.end_layer == num_layers for item in items):
        return [sum(item.num_tokens for item in items)] * num_layers
    edges = sorted({0, num_layers, *(edge for item in items for edge in (item.first_layer, item.end_layer))})
    counts: list[int] = []
    for first, end in pairwise(edges):
        tokens = sum(item.num_tokens for item in items if item.first_layer <= first < item.end_layer)
        counts += [tokens] * (end - first)
    return counts


def _best(steps: Sequence[LoggedStep], num_layers: int, experts: Experts | None) -> StepCost:
    """The fit with the knee that suits best."""
    seconds = np.array([step.seconds for step in steps])
    reads = np.array(
        [experts.read_s(tokens_by_layer(step.items, num_layers)) if experts else 0.0 for step in steps]
    )
    found: list[tuple[float, int, Floats]] = []
    for knee in KNEES:
        rows = np.array([features(step.items, num_layers, knee) for step in steps]) / seconds[:, None]
        wanted = 1 - reads / seconds
        figures = non_negative(rows, wanted)
        found.append((float(np.abs(rows @ figures - wanted).sum()), knee, figures))
    _, knee, figures = min(found, key=lambda one: one[:2])
    # The smallest relative errors are those of too small a model, where some steps were slow by chance: all
    # steps together take as long as they took.
    rows = np.array([features(step.items, num_layers, knee) for step in steps])
    if (foretold := float((rows @ figures).sum())) > 0:
        figures = figures * max(0.0, float((seconds - reads).sum())) / foretold
    fixed_s, token_s, further_s, attended_s, request_s = figures.tolist()
    return StepCost(fixed_s, token_s, further_s, attended_s, request_s, knee, experts)


def non_negative(rows: Floats, wanted: Floats) -> Floats:
    """The least squares solution x >= 0 of rows [n, k] @ x = wanted [n].

    Source: C. Lawson, R. Hanson, "Solving Least Squares Problems", Prentice-Hall 1974, chapter 23, for so few
    columns by trying which of them are 0.
    """
    count = rows.shape[1]
    best, least = np.zeros(count), float("inf")
    for mask in range(1, 1 << count):
        chosen = [column for column in range(count) if mask >> column & 1]
        part = np.linalg.lstsq(rows[:, chosen], wanted, rcond=None)[0]
        error = float(((rows[:, chosen] @ part - wanted) ** 2).sum())
        if (part >= 0).all() and error < least - 1e-12:
            least = error
            best = np.zeros(count)
            best[chosen] = part
    return best


def _seconds(steps: Sequence[LoggedStep], num_layers: int, cost: StepCost) -> tuple[Floats, Floats]:
    """What steps took, and what a model says."""
    measured = np.array([step.seconds for step in steps])
    return measured, np.array([cost.seconds(step.items, num_layers) for step in steps])
