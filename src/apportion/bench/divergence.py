"""How far a model's predictions lie from a reference's: Kullback-Leibler divergence and its company."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from apportion.bench.perplexity import standard_error
from apportion.bench.windows import first_scored, hidden_states, log_normalizers, row_runs, window_input
from apportion.core.errors import UsageError
from apportion.formats.block import Floats
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model

PERCENTILES = (90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    model: Model
    kv: str = DEFAULT


@dataclass(frozen=True, slots=True)
class Divergence:
    """What changes when the reference is replaced by the judged model; logarithms are natural.

    Attributes:
        mean_kld: mean over positions of KL(reference || judged), and its standard error.
        percentiles: of the KLD, by name ("99.0").
        same_top: share of positions where both hold the same token likeliest.
        rms_probability_difference: of the text's own tokens, root mean square.
        mean_probability_difference: judged minus reference.
        perplexity_ratio: judged by reference.
    """

    mean_kld: float
    mean_kld_error: float
    median_kld: float
    max_kld: float
    percentiles: dict[str, float]
    same_top: float
    rms_probability_difference: float
    mean_probability_difference: float
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float
    tokens: int
    ctx: int
    windows: int
    seconds: float


@dataclass(slots=True)
class Positions:
    """What is kept of every position: a few numbers, never a row of logits."""

    kld: list[NDArray[np.float64]] = field(default_factory=list)
    same_top: list[NDArray[np.bool_]] = field(default_factory=list)
    judged_nll: list[NDArray[np.float64]] = field(default_factory=list)
    reference_nll: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, judged: Floats, reference: Floats, targets: Ints) -> None:
        """Compare rows of logits [n, V]; targets [n] are the text's tokens.

        KL(p || q) = sum p (log p - log q) = log Zq - log Zp + sum p (reference - judged logit).
        """
        log_zq, log_zp = log_normalizers(judged), log_normalizers(reference)
        p = np.exp(reference - log_zp[:, None].astype(np.float32))
        difference = np.einsum("nv,nv->n", p, reference - judged, dtype=np.float64)
        mass = p.sum(axis=1, dtype=np.float64)
        self.kld.append(np.maximum(0.0, log_zq - log_zp + difference / mass))
        self.same_top.append(judged.argmax(axis=1) == reference.argmax(axis=1))
        rows = np.arange(len(targets))
        self.judged_nll.append(log_zq - judged[rows, targets])
        self.reference_nll.append(log_zp - reference[rows, targets])


def divergence(
    judged: Side,
    reference: Side,
    windows: Sequence[Ints],
    bos_id: int | None,
    on_window: Callable[[int, int, float], None] | None = None,
) -> Divergence:
    """Compare over the scored half of each window (`windows.text_windows`).

    `on_window` is called after each with windows done, windows in all, and the mean KLD so far.

    Raises:
        UsageError: the two have different vocabularies.
    """
    if judged.model.config.vocab_size != reference.model.config.vocab_size:
        raise UsageError(
            "the two models have different vocabularies",
            "predictions over different tokens cannot be compared",
            judged=judged.model.config.vocab_size,
            reference=reference.model.config.vocab_size,
        )
    begin = time.perf_counter()
    ctx = len(windows[0])
    caches = judged.model.new_cache(ctx, judged.kv), reference.model.new_cache(ctx, reference.kv)
    positions = Positions()
    for done, window in enumerate(windows, start=1):
        compare_window(judged, reference, caches, window, bos_id, positions)
        if on_window:
            on_window(done, len(windows), float(np.concatenate(positions.kld).mean()))
    return summary(positions, ctx, len(windows), time.perf_counter() - begin)


def compare_window(
    judged: Side,
    reference: Side,
    caches: tuple[KvCache, KvCache],
    window: Ints,
    bos_id: int | None,
    positions: Positions,
) -> None:
    ids, first = window_input(window, bos_id), first_scored(len(window))
    targets = window[first + 1 :]
    ours = hidden_states(judged.model, ids, caches[0], first)
    theirs = hidden_states(reference.model, ids, caches[1], first)
    for rows in row_runs(len(targets), 2 * judged.model.config.vocab_size):
        positions.add(judged.model.head(ours[rows]), reference.model.head(theirs[rows]), targets[rows])


def summary(positions: Positions, ctx: int, num_windows: int, seconds: float) -> Divergence:
    kld = np.concatenate(positions.kld)
    judged, reference = np.concatenate(positions.judged_nll), np.concatenate(positions.reference_nll)
    difference = np.exp(-judged) - np.exp(-reference)
    return Divergence(
        mean_kld=float(kld.mean()),
        mean_kld_error=standard_error(kld),
        median_kld=float(np.median(kld)),
        max_kld=float(kld.max()),
        percentiles={str(q): float(np.percentile(kld, q)) for q in PERCENTILES},
        same_top=float(np.concatenate(positions.same_top).mean()),
        rms_probability_difference=math.sqrt(float(np.mean(difference**2))),
        mean_probability_difference=float(difference.mean()),
        perplexity=math.exp(float(judged.mean())),
        reference_perplexity=math.exp(float(reference.mean())),
        perplexity_ratio=math.exp(float(judged.mean() - reference.mean())),
        tokens=len(kld),
        ctx=ctx,
        windows=num_windows,
        seconds=seconds,
    )
