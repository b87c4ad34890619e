"""Ways of guessing how answers go on, by name; each a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apportion.core.errors import UsageError
from apportion.core.registry import Registry

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel
    from apportion.engine.request import Drafter


class Guesses(Protocol):
    """A way of guessing, ready for the requests of one engine."""

    def drafter(self) -> Drafter | None:
        """For a new request; None where nothing is guessed."""

    def close(self) -> None:
        """Give back what it holds."""


class Way:
    """Base of every way of guessing.

    Attributes:
        sentence: what it does.
        argument: what stands behind the name and a colon; empty where nothing may.
    """

    sentence: str
    argument: str = ""

    def beside_nbytes(self, argument: str, ctx: int | None, concurrency: int) -> int:
        """Bytes of memory that it takes; `ctx` is None where the budget has yet to decide."""
        return 0

    def open(self, argument: str, target: LoadedModel, ctx: int, concurrency: int) -> Guesses:
        """Make it ready for a model.

        Args:
            target: the model whose tokens are guessed.
            ctx: positions of its context; so many requests of that length are served at once.

        Raises:
            UsageError: it cannot guess for this model.
        """
        raise NotImplementedError


WAYS = Registry("way to speculate", __name__, "WAY", Way)
BASELINE = "none"


def choose_way(text: str) -> tuple[Way, str]:
    """The way that `prompt_lookup` or `draft:MODEL` names, and its argument.

    Raises:
        NotFound: there is no such way.
        UsageError: it wants an argument, or takes none.
    """
    name, _, argument = text.partition(":")
    way = WAYS.get(name)
    if bool(argument) != bool(way.argument):
        hint = f"for example {name}:{way.argument}" if way.argument else f"write {name} alone"
        raise UsageError(f"{text!r} is no way to speculate", "something is missing or too much", hint)
    return way, argument
