"""Ways of guessing how answers go on, by name; each a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from apportion.core.errors import UsageError
from apportion.core.registry import Registry

if TYPE_CHECKING:
    from apportion.engine.request import Drafter
    from apportion.text.tokenizer import Tokenizer


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

    def open(self, argument: str, tokenizer: Tokenizer, ctx: int) -> Guesses:
        """Make it ready for a model.

        Args:
            tokenizer: the model's.
            ctx: positions of its context.
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
