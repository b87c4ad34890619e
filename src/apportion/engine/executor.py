"""What carries out a step: a model over pages of keys and values, or a simulator in its place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from apportion.formats.block import Floats
from apportion.kernels.kv import ALL_LIVE
from apportion.kernels.ops import Best, BestOf, Ints


class Table(Protocol):
    """A sequence's blocks, in the order of its positions."""

    def append(self, block: int, live: int = ALL_LIVE) -> None:
        """The next block; places whose bit is 0 in `live` are seen by no token."""

    def exchange(self, index: int, block: int) -> None:
        """Another block of the same content in place of one."""


# What a step gives for each of some tokens: all logits [n, V], or the best of them.
Rows: TypeAlias = Floats | Best


class RunItem(NamedTuple):
    """Tokens of one request that pass layers first_layer..end_layer - 1 in this run.

    Attributes:
        ids: the tokens [n] int32; they enter places `start`.. of the table.
        num_logits: how many of the last of them need logits; 0 before the last layer.
        position: of the first token; None: its place.
        observe: told the tokens' hidden states [n, H] once they are through the last layer, from a run that
            did not fail. They hold for the call alone.
        best: that the best of each row of logits is enough.
    """

    request: int
    ids: Ints
    table: Table
    start: int
    first_layer: int
    end_layer: int
    num_logits: int
    position: int | None = None
    observe: Callable[[Floats], None] | None = None
    best: BestOf | None = None


class Executor(Protocol):
    """A model, ready to run steps. For one thread."""

    @property
    def num_layers(self) -> int: ...

    @property
    def streams(self) -> bool:
        """Weights come and go, so that every pass over the layers costs reads."""

    @property
    def finds_best(self) -> bool:
        """Whether items may ask for the best of a row alone."""

    @property
    def layer(self) -> int:
        """That the run under way has come to, as far as is known. Other threads may ask."""

    def new_table(self) -> Table:
        """For a sequence that enters."""

    def release(self, table: Table) -> None:
        """Its sequence leaves, and gives back what it has beside its blocks."""

    def run(self, items: Sequence[RunItem]) -> Sequence[Rows | None]:
        """Carry out the items in one pass: logits [num_logits, V] of each, or the best of them, None where it
        asks for none. They hold until the next run.

        A token's logits do not depend on what runs beside it. Where it raises, keys and values of the items'
        tokens are undefined, and the same items can be run again.
        """

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        """Ask, between the layers of runs that take long, whether anybody wants the run still; where nobody
        does, it may raise `BrokenOff`.
        """

    def forget(self, requests: Collection[int]) -> None:
        """Tokens of these that are on their way through the layers will not go on."""
