"""What a program that does not have all its weights in memory asks for while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from apportion._native import ExpertTable
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints
from apportion.kernels.weight import Weight


@dataclass(frozen=True, slots=True)
class RouterView:
    """What a layer's router saw and gave, for all tokens of a run.

    Attributes:
        inputs: the normed hidden states that it scored, [T, H]; the experts' input.
        scores: its scores of all experts, before any choice or softmax, [T, E].
        weights: of those that it chose, [T, R].
    """

    inputs: Floats
    scores: Floats
    weights: Floats


class Residency(Protocol):
    """Who brings the weights that come and go.

    Attributes:
        streamed_layers: layers whose dense part does not stay in memory, in order.
        chunk: tokens that pass a layer at a time.
        num_experts, experts_per_token: of a layer, and those of a token; 0 where there are none.
        reads_embedding: the embedding is read row by row, with `embed`.
        routes: `route` is to be told all routes.
        watches_routers: `acquire` is to be told what the routers saw.
        layer: whose weights the run under way asked for last; 0 before the first, and where none runs.
        is_wanted: asked now and then whether the run under way still is.
    """

    is_wanted: Callable[[], bool] | None

    @property
    def streamed_layers(self) -> Sequence[int]: ...

    @property
    def chunk(self) -> int: ...

    @property
    def num_experts(self) -> int: ...

    @property
    def experts_per_token(self) -> int: ...

    @property
    def reads_embedding(self) -> bool: ...

    @property
    def routes(self) -> bool: ...

    @property
    def watches_routers(self) -> bool: ...

    @property
    def layer(self) -> int: ...

    def expert_table(self, layer: int) -> ExpertTable | None:
        """Where the experts of a layer are; None where all of them stay in memory."""

    def dense_weights(self, layer: int) -> Mapping[str, Weight] | None:
        """The places of a streamed layer's matrices, by local name; None where they stay in memory."""

    def begin_run(self) -> None:
        """A run begins. Where the one before did not end, what it left is made good first.

        Raises:
            ApportionError: that cannot be.
        """

    def end_run(self) -> None:
        """The run has ended well."""

    def require(self, layer: int) -> None:
        """Return when the dense part of a streamed layer is in its place. What was required before is not
        needed any more.

        Raises:
            ApportionError: reading failed.
        """

    def route(self, layer: int, ids: Ints) -> Ints | None:
        """Told the experts of a layer that tokens chose, `ids` [T, R], where `routes` says so; others to be
        used in their place, or None.
        """

    def acquire(self, layer: int, ids: Ints, view: RouterView | None) -> Iterator[Sequence[int]]:
        """Experts of a layer that tokens chose, `ids` [T, R]: each once, and of several tokens in the order
        of their numbers. They are in memory or on their way there, and needed until the next part is asked
        for: by then they are there, or did not come. `view` is there where routers are watched.

        Raises:
            ApportionError: reading failed.
        """

    def check_wanted(self) -> None:
        """Called between layers and while a run waits.

        Raises:
            BrokenOff: nobody waits for the run.
        """

    def passed(self, layer: int, experts: Sequence[int], num_here: int, left: Sequence[int]) -> None:
        """The only token of a run passed a layer without `acquire`. So many of the experts that it chose were
        in memory; for the others these left, as was decided ahead.

        Raises:
            ApportionError: reading failed.
        """

    def embed(self, ids: Ints) -> Floats:
        """Tokens -> hidden states [T, H], where the embedding is read row by row."""
