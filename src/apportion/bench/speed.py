"""Prefill and decode speed, measured on the model alone, beside what the memory's bandwidth allows.

All lines run once uncounted; then every repetition measures each line, right after the memory's bandwidth
with the same number of threads. So whatever else the machine does meets all of them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from apportion import _native
from apportion.bench.limits import Bandwidth, Rates
from apportion.core.resident import peak_rss_bytes
from apportion.kernels.kv import KvPool, Page
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.kv_rows import write_page
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model
    from apportion.plan import Estimate

Phase: TypeAlias = Literal["prefill", "decode"]
CHUNK = 512  # tokens per prefill pass, as the engine runs it
STRIDE = 97  # tokens of the text between where two seeds begin


@dataclass(frozen=True, slots=True)
class Line:
    """What one line of a benchmark runs.

    Attributes:
        tokens: how many are read at once (prefill) or written one by one (decode).
        depth: how many positions the context holds before.
    """

    phase: Phase
    tokens: int
    threads: int
    depth: int = 0

    @property
    def end(self) -> int:
        """Positions that the context holds after."""
        return self.depth + self.tokens


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line of a benchmark, measured.

    Attributes:
        bytes_per_token: of weights, and of keys and values at the depth that decode runs at; a prefill pass
            reads the weights once for its up to 512 tokens, and its keys and values are not counted.
        bandwidth_gb_s: what as many threads stream from memory, in the same seconds; None under a budget,
            which has no room for the buffer that this takes.
        bandwidth_share: the median's bytes per second, by the median of that.
        python_us_per_step: of a pass, what was spent outside of the native core.
        hit_rate: share of a token's experts that were found in memory; of decode where experts come and go.
        disk_bytes_per_token, disk_GBps, stall_share: what was read, per token and by the line's seconds, and
            the share of these in which nothing was computed because a read was not complete; where weights
            come and go.
        reading_GBps: what the disk gave while anything was read.
        forecast_tok_s: what the plan says of this line; under a budget.
        forecast_error: by how much of the measured rate that is above it.
        given_disk_tok_s, given_disk_error: the same, had the plan known what the disk would give.
    """

    phase: Phase
    tokens: int
    depth: int
    threads: int
    tok_s: Rates
    bytes_per_token: float
    bandwidth_gb_s: Rates | None
    bandwidth_share: float | None
    python_us_per_step: float
    hit_rate: Rates | None = None
    disk_bytes_per_token: Rates | None = None
    disk_GBps: Rates | None = None  # noqa: N815
    stall_share: Rates | None = None
    reading_GBps: Rates | None = None  # noqa: N815
    forecast_tok_s: Estimate | None = None
    forecast_error: float | None = None
    given_disk_tok_s: Estimate | None = None
    given_disk_error: float | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All lines, and the process's peak memory, without the buffer for measuring bandwidth."""

    results: list[Measurement]
    peak_rss_bytes: int


@dataclass(slots=True)
class Samples:
    """What the repetitions of one line measured."""

    tok_s: list[float] = field(default_factory=list)
    bandwidth_gb_s: list[float] = field(default_factory=list)
    python_us: list[float] = field(default_factory=list)


def measure(
    model_of: Callable[[int], Model],
    lines: Sequence[Line],
    repetitions: int,
    bytes_of: Callable[[Line], float],
    on_run: Callable[[int, int, str], None] | None = None,
    kv: str = DEFAULT,
) -> Report:
    """Time every line.

    Args:
        kv: the codec of the KV cache, or those of its layers.
        model_of: the model that computes with so many threads.
        bytes_of: bytes that a line reads per token.
        on_run: called with runs done, runs in all, and what ran last.
    """
    models = {threads: model_of(threads) for threads in sorted({line.threads for line in lines})}
    cache = filled_cache(models[lines[0].threads], max(line.end for line in lines), kv)
    total, done = len(lines) * (repetitions + 1), 0

    def run(line: Line, samples: Samples) -> None:
        nonlocal done
        run_once(models[line.threads], cache, line, samples)
        done += 1
        if on_run:
            remark = f"{line.phase} {line.tokens}, {line.threads} threads: {samples.tok_s[-1]:.1f} tok/s"
            on_run(done, total, remark)

    for line in lines:
        run(line, Samples())
    peak = peak_rss_bytes()
    bandwidth = Bandwidth(max(models))
    samples = [Samples() for _ in lines]
    for _ in range(repetitions):
        for line, found in zip(lines, samples, strict=True):
            found.bandwidth_gb_s.append(bandwidth.measure(line.threads))
            run(line, found)
    results = [summary(line, found, bytes_of(line)) for line, found in zip(lines, samples, strict=True)]
    return Report(results, peak)


def filled_cache(model: Model, capacity: int, kv: str = DEFAULT) -> KvCache:
    """A cache with something ordinary at every position: what is there does not change the speed, but
    numbers too small to be normal would.
    """
    cache = model.new_cache(capacity, kv)
    rng = np.random.default_rng(0)
    for pool in (cache.pool, cache.hot_pool):
        if pool is not None:
            fill(pool, rng)
    return cache


def fill(pool: KvPool, rng: np.random.Generator) -> None:
    """Something ordinary in all blocks."""
    for layer, pages in enumerate(pool.layout.layers):
        shape = pages.shape
        for head in range(shape.num_heads):
            keys, values = (
                rng.standard_normal((BLOCK_TOKENS, width), dtype=np.float32)
                for width in (shape.key_width, shape.value_width)
            )
            write_page(Page(pool, 0), layer, head, 0, keys, None if shape.joint else values)
    pool.blocks[1:] = pool.blocks[0]


def run_once(
    model: Model, cache: KvCache, line: Line, samples: Samples, chunk: int = CHUNK, seed: int = 0
) -> None:
    """Run a line's passes, prompts in chunks, and note its speed."""
    decodes = line.phase == "decode"
    ids = text_ids(model, line.tokens, seed) if decodes else random_ids(model, line.tokens, seed)
    step = min(chunk, cache.tokens_at_once or chunk) if not decodes else 1
    passes = [ids[start : start + step] for start in range(0, len(ids), step)]
    cache.truncate(0)
    cache.segment(line.depth)  # as if it had been read: the last positions are in the window
    cache.advance(line.depth)
    busy, begin = _native.busy_seconds(), time.perf_counter()
    run = model.forward_best if decodes else model.forward
    for part in passes:
        run(part, cache)
    seconds = time.perf_counter() - begin
    outside = seconds - (_native.busy_seconds() - busy)
    samples.tok_s.append(line.tokens / seconds)
    samples.python_us.append(outside / len(passes) * 1e6)


def summary(line: Line, samples: Samples, bytes_per_token: float) -> Measurement:
    """What stands in the report for a line."""
    tok_s, bandwidth = Rates.of(samples.tok_s), Rates.of(samples.bandwidth_gb_s)
    return Measurement(
        line.phase,
        line.tokens,
        line.depth,
        line.threads,
        tok_s,
        bytes_per_token,
        bandwidth,
        tok_s.median * bytes_per_token / (bandwidth.median * 1e9),
        statistics.median(samples.python_us),
    )


def random_ids(model: Model, count: int, seed: int) -> Ints:
    """The same for every run of a seed: speed must not vary with which tokens they are."""
    return np.random.default_rng(seed).integers(0, model.config.vocab_size, count, dtype=np.int32)


def text_ids(model: Model, count: int, seed: int) -> Ints:
    """Tokens of a text, from a place of this seed's own: finding the best token is faster after text than
    after tokens that mean nothing. Random ones where weights come and go, so that other seeds have others,
    and where there is no tokenizer.
    """
    if model.calibration is None or model.residency is not None:
        return random_ids(model, count, seed)
    text = model.calibration()
    return np.resize(np.roll(text, -STRIDE * seed), count)
