"""What an engine asks of those who keep keys and values for later requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from apportion.engine.request import Request


class Found(NamedTuple):
    """What would be found for a request that entered now.

    Attributes:
        num_tokens: its first tokens that need no computing.
        num_in_use: blocks of them that other requests hold, so that no room is needed for them.
    """

    num_tokens: int
    num_in_use: int


class Entered(NamedTuple):
    """What was found: blocks in memory, held for the request, and how many more are stored behind them."""

    blocks: Sequence[int]
    num_stored: int = 0


class Reuse(Protocol):
    """Keeps full blocks of requests, and finds them for others that begin with the same tokens."""

    @property
    def num_reading(self) -> int:
        """Blocks that something is read into, for requests that were broken off among others."""

    def find(self, request: Request) -> Found:
        """What would be found now."""

    def enter(self, request: Request) -> Entered:
        """Hold what is found: full blocks, all that the request has among them."""

    def load(self, request: Request, blocks: Sequence[int]) -> None:
        """Begin to bring what is stored into `blocks`; returns at once."""

    def loaded(self, request: Request) -> bool:
        """Whether all of it is there, or failed."""

    def take_loaded(self, request: Request) -> tuple[Sequence[int], Sequence[int]]:
        """The blocks that are filled, in order, and those that are not needed: from the first failure on."""

    def break_off(self, request: Request) -> Sequence[int]:
        """Stop loading; the blocks that it was for, which nothing writes to any more."""

    def wait(self, requests: Sequence[Request]) -> None:
        """Return when one of these is loaded, or a moment later."""

    def keep(self, request: Request, first: int, blocks: Sequence[int]) -> Sequence[int]:
        """These, its blocks from number `first` on, are full: others may find them. The blocks that are kept
        for them: others, where another request computed the same before.
        """

    def finished(self, request: Request) -> None:
        """It ended well; where it names a tool, it will be continued. Its blocks are held still."""

    def close(self) -> None:
        """Nothing is asked any more."""


class NoReuse:
    """`Reuse` that finds and keeps nothing."""

    num_reading = 0

    def find(self, request: Request) -> Found:
        return Found(0, 0)

    def enter(self, request: Request) -> Entered:
        return Entered(())

    def load(self, request: Request, blocks: Sequence[int]) -> None:
        raise AssertionError("nothing is stored")

    def loaded(self, request: Request) -> bool:
        return True

    def take_loaded(self, request: Request) -> tuple[Sequence[int], Sequence[int]]:
        return (), ()

    def break_off(self, request: Request) -> Sequence[int]:
        return ()

    def wait(self, requests: Sequence[Request]) -> None:
        return None

    def keep(self, request: Request, first: int, blocks: Sequence[int]) -> Sequence[int]:
        return blocks

    def finished(self, request: Request) -> None:
        return None

    def close(self) -> None:
        return None
