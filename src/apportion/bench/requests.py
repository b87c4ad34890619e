"""Many requests at once, measured on the engine: what they get together, and what each of them waits for."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from apportion.bench.limits import Rates
from apportion.bench.speed import text_ids
from apportion.engine.params import SamplingParams
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.engine.llm import LLM
    from apportion.engine.request import Request

IDLE_S = 0.001  # between looks at the time while nothing runs


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request of a workload.

    Attributes:
        at_s: when it comes, from the beginning on.
        prompt: token ids [n] int32.
        output: tokens that are asked for, and come.
    """

    at_s: float
    prompt: Ints
    output: int


@dataclass(frozen=True, slots=True)
class Served:
    """What a request saw, in seconds: the time to its first token, from its arrival on, and between tokens
    after that, on average and at most.
    """

    ttft_s: float
    tpot_s: float
    longest_gap_s: float


@dataclass(frozen=True, slots=True)
class Together:
    """Some requests, all there at the beginning.

    Attributes:
        output_tok_s: tokens of all answers, by the time from the first request to the last token.
        decode_tok_s: tokens after the first of all answers, by the time from when every prompt was read on.
        disk_bytes_per_token: read for each token of all answers; None where all weights stay in memory.
    """

    concurrency: int
    prompt: int
    output: int
    output_tok_s: Rates
    decode_tok_s: Rates
    ttft_s: Rates
    tpot_s: Rates
    disk_bytes_per_token: float | None = None


def measure_together(
    llm: LLM,
    concurrency: int,
    prompt: int,
    output: int,
    repetitions: int,
    on_run: Callable[[int, int], None] | None = None,
) -> Together:
    """So many different requests at once, `repetitions` times and once before that is not counted."""
    runs, nbytes = [], 0
    for turn in range(repetitions + 1):
        arrivals = [
            Arrival(0.0, prompt_ids(llm, prompt, (concurrency, turn, number)), output)
            for number in range(concurrency)
        ]
        before = bytes_read(llm)
        served = serve(llm, arrivals)
        if turn:
            runs.append(served)
            nbytes += bytes_read(llm) - before
        if on_run:
            on_run(turn, repetitions)
    tokens = concurrency * output
    ends = [max(one.ttft_s + one.tpot_s * (output - 1) for one in run) for run in runs]
    read = [max(one.ttft_s for one in run) for run in runs]
    decoding = [max(end - first, 1e-9) for end, first in zip(ends, read, strict=True)]
    return Together(
        concurrency,
        prompt,
        output,
        Rates.of([tokens / end for end in ends]),
        Rates.of([concurrency * (output - 1) / seconds for seconds in decoding]),
        Rates.of([statistics.median(one.ttft_s for one in run) for run in runs]),
        Rates.of([statistics.median(one.tpot_s for one in run) for run in runs]),
        nbytes / (repetitions * tokens) if llm.model.residency is not None else None,
    )


def serve(llm: LLM, arrivals: Sequence[Arrival]) -> list[Served]:
    """Let requests arrive as they do, whether the engine keeps up or not; what each of them saw."""
    waiting = sorted(enumerate(arrivals), key=lambda pair: pair[1].at_s)[::-1]
    times: list[list[float]] = [[] for _ in arrivals]
    numbers: dict[int, int] = {}
    begin = time.perf_counter()
    left = sum(arrival.output for arrival in arrivals)
    while left:
        now = time.perf_counter() - begin
        while waiting and waiting[-1][1].at_s <= now:
            number, arrival = waiting.pop()
            numbers[llm.engine.add(request_of(llm, arrival)).id] = number
        came = llm.engine.step()
        now = time.perf_counter() - begin
        for request, _ in came:
            times[numbers[request.id]].append(now)
        left -= len(came)
        if not came and not llm.engine.num_running:
            time.sleep(IDLE_S)
    return [seen(arrival.at_s, one) for arrival, one in zip(arrivals, times, strict=True)]


def request_of(llm: LLM, arrival: Arrival) -> Request:
    """Greedy, and as long as it says."""
    params = SamplingParams(temperature=0, max_tokens=arrival.output, ignore_eos=True)
    return llm.request(arrival.prompt, params)


def seen(at_s: float, times: Sequence[float]) -> Served:
    gaps = np.diff(times)
    mean, longest = (float(gaps.mean()), float(gaps.max())) if len(gaps) else (0.0, 0.0)
    return Served(times[0] - at_s, mean, longest)


def goodput(served: Sequence[Served], ttft_s: float, tpot_s: float, seconds: float) -> float:
    """Requests a second that met both limits."""
    return sum(one.ttft_s <= ttft_s and one.tpot_s <= tpot_s for one in served) / seconds


def prompt_ids(llm: LLM, count: int, which: tuple[int, int, int]) -> Ints:
    """Tokens of a text, behind one that no other prompt begins with: else they would share pages."""
    rng = np.random.default_rng(which)
    ids = text_ids(llm.model, count, int(rng.integers(1 << 20)))
    ids[0] = rng.integers(llm.tokenizer.vocab_size)
    return ids


def bytes_read(llm: LLM) -> int:
    """From disk, for weights that come and go."""
    apportioned = llm.loaded.apportioned
    if apportioned is None or apportioned.residency is None:
        return 0
    return apportioned.residency.reader.stats().nbytes_read
