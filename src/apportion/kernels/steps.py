"""The steps that a forward pass is written in, for every family, and what is made of it.

A step takes and gives values [T, width]: NumPy arrays where steps are done at once (`kernels.eager`), numbers
of buffers where they are recorded for the core (`kernels.record`). Sizes are as in `kernels.ops`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, TypeVar

from apportion.formats.block import Floats
from apportion.kernels.kv import Segment
from apportion.kernels.ops import Best, BestOf, ExpertWeights, Gate, Ints, RopeStyle, Routing
from apportion.kernels.weight import Weight

V = TypeVar("V")


@dataclass(frozen=True, slots=True, eq=False)
class StatesOf:
    """Wanted: hidden states after the last layer, of these tokens [n] of a run, ascending."""

    rows: Ints


Want: TypeAlias = Literal["hidden", "last", "all"] | Ints | StatesOf


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """A matrix [N, K] and a bias [N] or None."""

    weight: Weight
    bias: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """A rotary embedding: `inv_freq` [pairs], and a factor on cos and sin."""

    inv_freq: Floats
    style: RopeStyle
    scale: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Attention:
    """One layer's attention, from projected queries, keys and values on.

    Attributes:
        layer: whose keys and values are appended to and read.
        rotated_from: heads are rotated from this dimension on.
        scale, window, softcap, sinks: as in `kernels.ops.Ops.attend`.
        clip: queries, keys and values are clipped to +-this, after their norm; 0: not.
        q_norm, k_norm: norms by their size: of each head, of all heads at once where they are larger, or of
            each head's first numbers where they are smaller.
    """

    layer: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    value_dim: int
    rotary: Rotary
    scale: float
    rotated_from: int = 0
    window: int = 0
    softcap: float = 0.0
    sinks: Floats | None = None
    clip: float = 0.0
    q_norm: Floats | None = None
    k_norm: Floats | None = None
    norm_eps: float = 0.0


class Steps(Protocol[V]):
    """What a forward pass can say. A value that a step adds to or changes must not be used afterwards: the
    step's result stands for it.
    """

    def embed(self, table: Weight, scale: float = 1.0) -> V:
        """Rows of `table` [V, H] for the tokens, times `scale`."""

    def rms_norm(self, x: V, weight: Floats, eps: float) -> V:
        """x / sqrt(mean(x^2) + eps) * weight."""

    def project(self, x: V, products: Sequence[Product]) -> list[V]:
        """The products of one input, made together."""

    def add_product(self, to: V, x: V, product: Product, scale: float = 1.0) -> V:
        """to + scale * product; changes `to`."""

    def project_heads(self, x: V, weight: Weight, keep: int = 0) -> V:
        """x [T, A * (K + keep)], weight [A, N, K] -> [T, A * (N + keep)]: each head's first K numbers
        through its own matrix, the others as they are.
        """

    def gated(self, x: V, gate: Weight, up: Weight, kind: Gate) -> V:
        """act(x gate) * (x up), as in `kernels.ops.Ops.gate`."""

    def attend(self, q: V, k: V, v: V | None, attention: Attention) -> V:
        """Normalize, clip and rotate q and k, append k and v to the cache, and attend; changes q, k and v.

        Without v, values are the first numbers of the keys: the cache says how many.
        """

    def route(self, logits: V, routing: Routing, bias: Floats | None = None) -> tuple[V, V]:
        """Expert ids and weights [T, R], as in `kernels.ops.Ops.route`."""

    def experts(self, x: V, ids: V, weights: V, experts: ExpertWeights, kind: Gate) -> V:
        """The weighted sum of each token's experts."""

    def add(self, to: V, y: V, scale: float = 1.0, norm: Floats | None = None, eps: float = 0.0) -> V:
        """to + scale * y, with y normalized before if there is a norm; changes both."""

    def add_gated(self, to: V, y: V, gate: V) -> V:
        """to + sigmoid(gate) * y, for gates [T, 1]; changes `to`."""

    def bound(self, x: V, scale: float = 1.0, cap: float = 0.0) -> V:
        """scale * x, then cap * tanh(x / cap) if there is a cap; changes x."""


class Forward(Protocol):
    """A forward pass in steps. Between layers, nothing but the hidden states passes."""

    @property
    def num_layers(self) -> int:
        """Layers between the embedding and the head."""

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""

    def embed(self, steps: Steps[V]) -> V:
        """Tokens -> hidden states."""

    def layer(self, steps: Steps[V], layer: int, x: V) -> V:
        """Hidden states through one layer."""

    def head(self, steps: Steps[V], x: V) -> V:
        """Hidden states -> logits."""


class Program(Protocol):
    """A forward pass, ready to run. May be called from several threads; runs may wait for one another."""

    def run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        first: int = 0,
        last: int | None = None,
        want: Want = "last",
    ) -> Floats:
        """Tokens of several sequences through layers first..last-1, together.

        A token's result does not depend on what else is in the batch.

        Args:
            source: tokens [T] int32, which are embedded first, or hidden states [T, H]: those of the batch's
                segments, one after the other.
            batch: where the tokens' keys and values go, and which they see. None where no layer attends.
            want: `hidden` states [T, H]; logits of each segment's `last` token [segments, V], of `all` tokens
                [T, V], or of those with these numbers, int32 and ascending; or hidden states of some.

        Raises:
            ValueError: an array or a number does not fit; nothing was written.
        """

    def best(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        of: BestOf,
        rows: Ints | None = None,
        first: int = 0,
        by_bounds: bool = False,
    ) -> Best:
        """As `run` through all layers from `first` on, but of each row of logits the largest alone.

        Args:
            rows: the numbers of the tokens, ascending; None: each segment's last, or where there are no
                segments the last of all.
            by_bounds: of a head that is split, compute no more than is needed to know it. It is the same, to
                the bit.
        """
