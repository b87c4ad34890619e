"""Keeping the context of a paused request for as long as its tool call is worth waiting for."""

from __future__ import annotations

from bisect import insort
from collections import deque
from dataclasses import dataclass
from math import log

from apportion.core.errors import UsageError
from apportion.policies.retention import KeptView, Pause, Retention, RetentionState

MOST_TOOLS = 256  # remembered one by one; names come from requests


@dataclass(frozen=True, slots=True)
class Continuum(Retention):
    """Pins a context that a tool call will come back to for the time t that gains most: the share of the
    tool's calls that came back within t, times what coming back late costs, less t. Others go by last use.

    With fewer than `num_samples` calls of a tool those of all tools stand for it, and with fewer of all an
    exponential distribution with a mean of `prior_s`. `memory` is how much longer a follow-up waits that must
    be computed again, as a share of its mean wait.

    Source: H. Li et al., "Continuum: Efficient and Robust Multi-Turn LLM Agent Scheduling with KV Cache
    Time-to-Live", arXiv:2511.02230 (2025).
    """

    num_samples: int = 100
    prior_s: float = 1.0
    memory: float = 1.0

    def __post_init__(self) -> None:
        if self.num_samples < 1 or not self.prior_s > 0 or not self.memory >= 0:
            raise UsageError(
                "continuum takes num_samples from 1, prior_s above 0 and memory from 0",
                num_samples=self.num_samples,
                prior_s=self.prior_s,
                memory=self.memory,
            )

    def state(self) -> RetentionState:
        return ContinuumState(self)


class Durations:
    """The last calls' durations, also in ascending order."""

    def __init__(self, most: int = 1000) -> None:
        self._recent: deque[float] = deque()
        self._most = most
        self.ascending: list[float] = []

    def __len__(self) -> int:
        return len(self.ascending)

    def add(self, seconds: float) -> None:
        if len(self._recent) == self._most:
            self.ascending.remove(self._recent.popleft())
        self._recent.append(seconds)
        insort(self.ascending, seconds)

    def best_wait(self, gain_s: float) -> float:
        """The t that gains most when coming back within it saves `gain_s`: 0 or one of the durations, the
        smaller one of equals.
        """
        best_s, best_gain = 0.0, 0.0
        for rank, seconds in enumerate(self.ascending, 1):
            gain = rank / len(self.ascending) * gain_s - seconds
            if gain > best_gain:
                best_s, best_gain = seconds, gain
        return best_s


class ContinuumState(RetentionState):
    """How long tool calls took."""

    def __init__(self, policy: Continuum) -> None:
        self._policy = policy
        self._tools: dict[str, Durations] = {}
        self._all = Durations()

    def worth(self, kept: KeptView, now_s: float) -> float:
        return kept.last_use_s

    def time_to_live(self, pause: Pause) -> float:
        policy = self._policy
        gain_s = pause.recompute_s + policy.memory * pause.mean_wait_s
        durations = self._tools.get(pause.tool, self._all)
        if len(durations) < policy.num_samples:
            durations = self._all
        if len(durations) < policy.num_samples:
            # The t that maximises gain * (1 - exp(-t / prior)) - t.
            return policy.prior_s * log(gain_s / policy.prior_s) if gain_s > policy.prior_s else 0.0
        return durations.best_wait(gain_s)

    def tool_took(self, tool: str, seconds: float) -> None:
        self._all.add(seconds)
        durations = self._tools.pop(tool, None) or Durations()
        durations.add(seconds)
        self._tools[tool] = durations  # the one called last at the end
        if len(self._tools) > MOST_TOOLS:
            del self._tools[next(iter(self._tools))]


POLICY = Continuum()
