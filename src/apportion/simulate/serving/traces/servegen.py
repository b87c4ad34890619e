"""ServeGen: what the clients of a large service ask for, as figures from which requests are drawn.

A folder has for each client `client-N-trace.csv` (window start in s, requests a second, coefficient of
variation of what lies between two, its distribution and parameters) and `client-N-dataset.json` (window
start -> shares of prompt and answer lengths), each plain or gzipped.

Source: Y. Xiang et al., "ServeGen: Workload Characterization and Generation of Large Language Model Serving
in Production", arXiv:2505.09999 (2025); github.com/alibaba/ServeGen, Apache-2.0.
"""

from __future__ import annotations

import ast
import heapq
import json
import math
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from apportion.core.errors import BadFile, NotFound
from apportion.simulate.serving.traces.reading import MOST_TOKENS, bad_line, lines
from apportion.simulate.serving.traces.trace import TracedRequest

TRACE_NAME = re.compile(r"client-(\d+)-trace\.csv(\.gz)?")
MAX_WINDOWS = 100_000


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time with one rate. `weibull`: the shape of what lies between requests; 0: a gamma's."""

    start_s: float
    rate: float
    variation: float
    weibull: float


@dataclass(frozen=True, slots=True)
class Lengths:
    """Numbers of tokens, and the shares of requests up to each."""

    tokens: tuple[int, ...]
    cumulative: tuple[float, ...]

    def draw(self, random: Random) -> int:
        index = bisect_right(self.cumulative, random.random() * self.cumulative[-1])
        return self.tokens[min(index, len(self.tokens) - 1)]


def read(folder: Path, seed: int, start_s: float) -> Iterator[TracedRequest]:
    """Requests of all clients, merged by arrival.

    Raises:
        NotFound: no client's trace and lengths are in the folder.
        BadFile: a file breaks its format.
    """
    clients = []
    for path in sorted(folder.iterdir()):
        match = TRACE_NAME.fullmatch(path.name)
        if match:
            plain = folder / f"client-{match[1]}-dataset.json"
            lengths = next(
                (one for one in (plain, plain.with_name(f"{plain.name}.gz")) if one.exists()), None
            )
            clients += [(int(match[1]), path, lengths)] if lengths else []
    if not clients:
        raise NotFound(
            f"{folder.name} holds no ServeGen clients", "it has no client-N-trace.csv beside its dataset"
        )
    drawn = [
        _requests(f"client {number}", _windows(trace), _lengths(dataset), Random(f"{seed} {number}"), start_s)
        for number, trace, dataset in sorted(clients)
    ]
    return heapq.merge(*drawn, key=lambda request: request.arrival_s)


def _requests(
    tenant: str,
    windows: list[Window],
    lengths: list[tuple[float, Lengths, Lengths]],
    random: Random,
    start_s: float,
) -> Iterator[TracedRequest]:
    starts = [start for start, _, _ in lengths]
    for window, after in zip(windows, [*windows[1:], None], strict=True):
        end_s = after.start_s if after else window.start_s + 600
        if window.rate <= 0 or end_s <= start_s or not lengths:
            continue
        now_s = max(window.start_s, start_s) + _gap(window, random) * random.random()
        while now_s < end_s:
            _, prompts, outputs = lengths[max(bisect_right(starts, now_s) - 1, 0)]
            yield TracedRequest(now_s - start_s, prompts.draw(random), outputs.draw(random), tenant=tenant)
            now_s += _gap(window, random)


def _gap(window: Window, random: Random) -> float:
    """Seconds to the next request, 1 / rate on average."""
    if window.weibull:
        scale = 1 / window.rate / math.gamma(1 + 1 / window.weibull)
        return max(random.weibullvariate(scale, window.weibull), 1e-6)
    shape = 1 / max(window.variation, 0.01) ** 2
    return max(random.gammavariate(shape, 1 / (window.rate * shape)), 1e-6)


def _windows(path: Path) -> list[Window]:
    windows = []
    for number, line in enumerate(lines(path), 1):
        try:
            start, rate, variation, name, first, _ = line.split(",")
            window = Window(
                float(start), float(rate), float(variation), float(first) if name == "Weibull" else 0.0
            )
            if not all(0 <= value < 1e9 for value in (window.start_s, window.rate, window.variation)):
                raise ValueError("a figure makes no sense")
            if name == "Weibull" and not 0.05 <= window.weibull < 1e3:
                raise ValueError("a distribution makes no sense")
        except ValueError as error:
            raise bad_line(path, number, error) from error
        windows.append(window)
        if len(windows) > MAX_WINDOWS:
            raise BadFile(f"{path.name} has too many windows", limit=MAX_WINDOWS)
    return sorted(windows, key=lambda window: window.start_s)


def _lengths(path: Path) -> list[tuple[float, Lengths, Lengths]]:
    """Prompt and answer lengths by the start of the window from which they hold; empty windows left out."""
    try:
        record = json.loads("".join(lines(path)))
        found = []
        for start, shares in record.items():
            prompts, outputs = (_shares(shares[name]) for name in ("input_tokens", "output_tokens"))
            if prompts and outputs:
                found.append((float(start), prompts, outputs))
        return sorted(found, key=lambda entry: entry[0])
    except (ValueError, TypeError, KeyError, AttributeError, SyntaxError, RecursionError) as error:
        raise BadFile(f"{path.name} holds no lengths", str(error)) from error


def _shares(text: str) -> Lengths | None:
    """`{tokens: share, ...}` as Python writes it."""
    shares = ast.literal_eval(text)
    tokens, total, cumulative = [], 0.0, []
    for length, share in shares.items():
        if not 0 <= length <= MOST_TOKENS or not 0 <= share <= 1:
            raise ValueError("a length or a share makes no sense")
        tokens.append(max(int(length), 1))
        total += share
        cumulative.append(total)
    return Lengths(tuple(tokens), tuple(cumulative)) if total else None
