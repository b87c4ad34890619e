"""Prefill and decode speed, measured on the model alone, beside what the memory's bandwidth allows."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from apportion import _native
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model

Phase: TypeAlias = Literal["prefill", "decode"]
CHUNK = 512  # tokens per prefill pass, as the engine runs it
STREAM_NBYTES = 256 << 20  # far beyond any cache


@dataclass(frozen=True, slots=True)
class Rates:
    """Tokens per second over repetitions."""

    median: float
    min: float
    max: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a benchmark.

    Attributes:
        tokens: how many were read (prefill) or written one by one into an empty context (decode).
        bytes_per_token: of weights; a prefill pass reads them once for its up to 512 tokens.
        bandwidth_share: the median's bytes per second, by what as many threads stream from memory.
    """

    phase: Phase
    tokens: int
    threads: int
    tok_s: Rates
    bytes_per_token: float
    bandwidth_share: float


@dataclass(frozen=True, slots=True)
class Timed:
    """A measured line before the bandwidth is known."""

    phase: Phase
    tokens: int
    threads: int
    tok_s: Rates


def measure(
    model_of: Callable[[int], Model],
    phases: Iterable[tuple[Phase, int]],
    threads: Sequence[int],
    repetitions: int,
    on_repetition: Callable[[int, int, str], None] | None = None,
) -> list[Timed]:
    """Time every phase at every number of threads, after one run that is not counted.

    Args:
        model_of: the model that computes with so many threads.
        phases: (phase, tokens).
        on_repetition: called with runs done, runs in all, and what ran last.
    """
    lines = [(phase, tokens, count) for count in threads for phase, tokens in phases]
    total, done = len(lines) * (repetitions + 1), 0
    results = []
    for phase, tokens, count in lines:
        model = model_of(count)
        cache = model.new_cache(tokens)
        rates = []
        for _ in range(repetitions + 1):
            rates.append(tokens / timed(RUNS[phase], model, cache, random_ids(model, tokens)))
            done += 1
            if on_repetition:
                on_repetition(done, total, f"{phase} {tokens}, {count} threads: {rates[-1]:.1f} tok/s")
        results.append(Timed(phase, tokens, count, spread(rates[1:])))
    return results


def with_bandwidth(lines: Sequence[Timed], bytes_per_token: int) -> list[Measurement]:
    """The lines beside the bandwidth that their number of threads reaches on this machine, measured now."""
    bandwidths = {n: _native.stream_bandwidth(STREAM_NBYTES, n) * 1e9 for n in {one.threads for one in lines}}
    results = []
    for line in lines:
        nbytes = bytes_per_token / (min(CHUNK, line.tokens) if line.phase == "prefill" else 1)
        share = line.tok_s.median * nbytes / bandwidths[line.threads]
        results.append(Measurement(line.phase, line.tokens, line.threads, line.tok_s, nbytes, share))
    return results


def timed(run: Callable[[Model, KvCache, Ints], None], model: Model, cache: KvCache, ids: Ints) -> float:
    cache.truncate(0)
    begin = time.perf_counter()
    run(model, cache, ids)
    return time.perf_counter() - begin


def prefill(model: Model, cache: KvCache, ids: Ints) -> None:
    for start in range(0, len(ids), CHUNK):
        model.forward(ids[start : start + CHUNK], cache)


def decode(model: Model, cache: KvCache, ids: Ints) -> None:
    for place in range(len(ids)):
        model.forward(ids[place : place + 1], cache)


RUNS: dict[Phase, Callable[[Model, KvCache, Ints], None]] = {"prefill": prefill, "decode": decode}


def random_ids(model: Model, count: int) -> Ints:
    """The same for every run: speed must not depend on which tokens they are, and must not vary with them."""
    return np.random.default_rng(0).integers(0, model.config.vocab_size, count, dtype=np.int32)


def spread(rates: Sequence[float]) -> Rates:
    return Rates(statistics.median(rates), min(rates), max(rates))
