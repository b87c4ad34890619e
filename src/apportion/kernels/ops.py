"""The operations that a forward pass is made of: one protocol, a NumPy reference and the C++ core behind it.

Shapes: T tokens, H hidden size, K input columns, N output rows, A attention heads, G key-value heads, D head
size, Dv value size, E experts, R experts per token, F feed-forward size. Activations are float32,
C-contiguous unless stated. Nothing here knows a model family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion._native import ExpertTable
from apportion.formats.block import Floats
from apportion.kernels.weight import Weight

if TYPE_CHECKING:
    from apportion.kernels.kv import Segment
    from apportion.kernels.residency import Residency
    from apportion.kernels.steps import Forward, Program

Ints: TypeAlias = NDArray[np.int32]
Gate: TypeAlias = Literal["silu", "gelu_tanh", "swiglu_oai"]
RopeStyle: TypeAlias = Literal["half", "interleaved"]


@dataclass(frozen=True, slots=True)
class Routing:
    """How router logits become a route.

    Attributes:
        top_k: experts per token.
        score: `softmax` over all experts, `sigmoid` per expert, or `softmax_topk`: softmax over the chosen
            logits only.
        normalize: divide the chosen weights by their sum.
        scale: factor on the weights, after normalizing.
        num_groups, top_groups: choose this many groups of experts first (1, 1: no groups).
        group_score: a group's worth, `max` of its scores (DeepSeek-V2) or `top2` sum of its two best (V3).
    """

    top_k: int
    score: Literal["softmax", "sigmoid", "softmax_topk"] = "softmax"
    normalize: bool = False
    scale: float = 1.0
    num_groups: int = 1
    top_groups: int = 1
    group_score: Literal["max", "top2"] = "max"


@dataclass(frozen=True, slots=True)
class ExpertWeights:
    """One layer's experts: stacks gate and up [E, F, H], down [E, H, F]; biases [E, F], [E, F], [E, H].

    Attributes:
        table: where each expert is, for experts that come and go: the stacks then have no data.
    """

    gate: Weight
    up: Weight
    down: Weight
    gate_bias: Floats | None = None
    up_bias: Floats | None = None
    down_bias: Floats | None = None
    table: ExpertTable | None = None


class BestOf(NamedTuple):
    """Which logits count where the largest alone is asked for: of ids below `limit` that are not in
    `without`, ascending.
    """

    limit: int
    without: tuple[int, ...] = ()


@dataclass(slots=True, eq=False)
class Best:
    """The largest logit of each of n tokens and its id, of equal ones the first; or the first NaN. Where no
    logits count, minus infinity and 0.

    Attributes:
        share: of the head, what was multiplied whole to find it, at most.
    """

    ids: list[int]
    logits: list[float]
    share: float = 1.0

    def __getitem__(self, rows: slice) -> Best:
        return Best(self.ids[rows], self.logits[rows], self.share)


class Ops(Protocol):
    """What a backend computes."""

    def program(self, forward: Forward, residency: Residency | None = None) -> Program:
        """A forward pass, ready to run on this backend.

        Args:
            residency: brings the weights that do not stay in memory; None where all of them do.

        Raises:
            Unsupported: this backend has all weights in memory, or none.
        """

    def prepare(self, weight: Weight) -> Weight:
        """A freshly loaded weight in the layout that this backend's products like best.

        It may be rearranged in its own memory: only the result is used from then on.
        """

    def prepare_head(self, weight: Weight) -> Weight:
        """The same for the head, of which greedy decoding wants the largest product alone
        (`kernels.steps.Program.best`).
        """

    def embed(self, ids: Ints, table: Weight) -> Floats:
        """Rows of `table` [V, H] -> [T, H]."""

    def rms_norm(self, x: Floats, weight: Floats, eps: float) -> Floats:
        """x [..., W], weight [W] -> x / sqrt(mean(x^2) + eps) * weight."""

    def linear(
        self, x: Floats, weight: Weight, bias: Floats | None = None, *, outliers_apart: bool = False
    ) -> Floats:
        """x [T, K], weight [N, K], bias [N] -> [T, N].

        Args:
            outliers_apart: where activations are rounded to bytes, the largest of each token's is not.
        """

    def linear_heads(self, x: Floats, weight: Weight) -> Floats:
        """x [T, A, K], weight [A, N, K] -> [T, A, N]: each head has its own matrix."""

    def rope(
        self, x: Floats, positions: Ints, inv_freq: Floats, style: RopeStyle, scale: float = 1.0
    ) -> None:
        """Rotate x [T, A, D] in place: its first 2 * len(inv_freq) dimensions; cos and sin are times `scale`.

        `half` pairs dimension i with i + len(inv_freq), `interleaved` pairs 2i with 2i + 1. x may be a
        strided view whose last dimension is contiguous.
        """

    def gate(self, gate: Floats, up: Floats, kind: Gate) -> Floats:
        """act(gate) * up, element by element. `swiglu_oai` is gpt-oss's clamped form: g = min(gate, 7),
        u = clip(up, -7, 7), g * sigmoid(1.702 g) * (u + 1)."""

    def append(self, segments: Sequence[Segment], layer: int, keys: Floats, values: Floats | None) -> None:
        """Write keys [T, G, D] and values [T, G, Dv] of the segments' tokens to a layer's pages.

        Without values, they are the first numbers of the keys.
        """

    def attend(
        self,
        q: Floats,
        segments: Sequence[Segment],
        layer: int,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        sinks: Floats | None = None,
    ) -> Floats:
        """Causal attention of the segments' tokens, q [T, A, D], over their tables' pages -> [T, A, Dv].

        A token sees the live places of its table up to its own. Query head a reads key-value head
        a // (A // G). `window` w > 0: a token sees itself and the w - 1 places before it. `softcap` c > 0:
        scores become c * tanh(score / c). `sinks` [A]: a logit per head that takes part in the softmax's sum
        and carries no value.
        """

    def route(self, logits: Floats, routing: Routing, bias: Floats | None = None) -> tuple[Ints, Floats]:
        """Router logits [T, E] -> expert ids [T, R] (best first, ties by lower id) and weights [T, R].

        `bias` [E] is added to the scores for choosing only (DeepSeek-V3).
        """

    def experts(self, x: Floats, ids: Ints, weights: Floats, experts: ExpertWeights, kind: Gate) -> Floats:
        """x [T, H], ids and weights [T, R] -> [T, H]: the weighted sum of each token's experts."""
