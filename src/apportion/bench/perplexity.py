"""Perplexity of a model on a text: exp of the mean negative log-likelihood of its tokens."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.bench.windows import first_scored, hidden_states, log_normalizers, row_runs, window_input
from apportion.core.errors import NotFinite
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model

OnWindow: TypeAlias = Callable[[int, int, float], None]
"""Called after each window with windows done, windows in all, and the perplexity so far."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """A text's perplexity.

    Attributes:
        error: one standard error of it, as llama.cpp prints behind its ±.
        tokens: how many tokens were scored.
        running: the perplexity after each window.
    """

    perplexity: float
    error: float
    tokens: int
    ctx: int
    windows: int
    seconds: float
    running: tuple[float, ...]


def perplexity(
    model: Model,
    windows: Sequence[Ints],
    bos_id: int | None,
    *,
    kv: str = DEFAULT,
    on_window: OnWindow | None = None,
) -> Perplexity:
    """Score windows of equal length (`windows.text_windows`).

    Raises:
        NotFinite: the model computed a likelihood that is no number.
    """
    begin = time.perf_counter()
    ctx = len(windows[0])
    cache = model.new_cache(ctx, kv)
    scores: list[NDArray[np.float64]] = []
    running: list[float] = []
    total = 0.0
    for done, window in enumerate(windows, start=1):
        scores.append(window_scores(model, window, bos_id, cache))
        total += float(scores[-1].sum())
        running.append(math.exp(total / (done * len(scores[0]))))
        if on_window:
            on_window(done, len(windows), running[-1])
    nll = np.concatenate(scores)
    return Perplexity(
        perplexity=running[-1],
        error=running[-1] * standard_error(nll),
        tokens=len(nll),
        ctx=ctx,
        windows=len(windows),
        seconds=time.perf_counter() - begin,
        running=tuple(running),
    )


def window_scores(model: Model, window: Ints, bos_id: int | None, cache: KvCache) -> NDArray[np.float64]:
    """Negative log-likelihoods of the tokens in the window's second half, [ctx - ctx // 2 - 1] float64."""
    first = first_scored(len(window))
    states = hidden_states(model, window_input(window, bos_id), cache, first)
    targets = window[first + 1 :]
    scores = np.empty(len(targets), dtype=np.float64)
    for rows in row_runs(len(states), model.config.vocab_size):
        logits = model.head(states[rows])
        chosen = np.take_along_axis(logits, targets[rows, None], axis=1)[:, 0]
        scores[rows] = log_normalizers(logits) - chosen
    if not np.isfinite(scores).all():
        raise NotFinite(
            "the likelihood of a token is no number",
            "the model computed NaN or infinity",
            "a damaged file computes such numbers; `apportion verify` checks it",
        )
    return scores


def standard_error(values: NDArray[np.float64]) -> float:
    """Of the mean of independent values."""
    variance = float(np.mean(values**2) - np.mean(values) ** 2)
    return math.sqrt(max(0.0, variance) / (len(values) - 1)) if len(values) > 1 else 0.0
