"""Prompts of chosen lengths, no two of which begin alike unless that is asked for.

How many tokens a word takes is the server's to know: it is asked twice, with texts of different lengths, and
counts. What every prompt really had, its answer says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from apportion.bench.load.server import Server, answer_to
from apportion.core.errors import SourceError, UsageError

# Common words, each a single token in most vocabularies.
COMMON = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point "
    "home water room mother area money story fact month lot right study book eye job word business issue "
    "side kind head house service friend father power hour game line end member law car city community name"
)
FEWEST_WORDS = 200  # of a text that prompts are cut from


@dataclass(frozen=True, slots=True)
class WordLengths:
    """Tokens that a prompt takes.

    Attributes:
        fixed: whatever is said: the template's, and the beginning of the text.
        per_word: of the text.
    """

    fixed: float
    per_word: float

    def words(self, tokens: int) -> int:
        """How many make about so many tokens; at least one."""
        return max(1, round((tokens - self.fixed) / self.per_word))


class Words:
    """Endless words: a text's from a random place on, and from its beginning after its end; or common ones in
    random order.

    Args:
        text: where they come from; None: common ones.

    Raises:
        UsageError: the text is short.
    """

    def __init__(self, text: str | None = None) -> None:
        self._in_order = text is not None
        self._words = (COMMON if text is None else text).split()
        if self._in_order and len(self._words) < FEWEST_WORDS:
            raise UsageError(
                "the text is too short to cut prompts from", words=len(self._words), needed=FEWEST_WORDS
            )

    def draw(self, count: int, random: Random) -> list[str]:
        if not self._in_order:
            return random.choices(self._words, k=count)
        place = random.randrange(len(self._words))
        return [self._words[(place + step) % len(self._words)] for step in range(count)]


class Prompts:
    """Prompts by number: the same seed and number are the same prompt.

    Args:
        shared: tokens that all of them begin with, in common.
    """

    def __init__(self, words: Words, lengths: WordLengths, seed: str, shared: int = 0) -> None:
        self._words = words
        self._lengths = lengths
        self._seed = seed
        count = lengths.words(shared) if shared else 0
        self._shared = words.draw(count, Random(f"{seed} shared"))

    def prompt(self, number: int, tokens: int) -> str:
        """Text of about so many tokens, the template's among them."""
        count = self._lengths.words(tokens)
        shared = self._shared[: count - 1]
        # The number: pieces of a short text would sooner or later begin at the same place.
        own = self._words.draw(count - len(shared), Random(f"{self._seed} {number}"))
        return " ".join([*shared, f"{number}:", *own])


def lengths_of(server: Server, words: Words, seed: int, tokens: int) -> WordLengths:
    """Ask the server what texts of two lengths take.

    Args:
        tokens: of the prompts that are wanted; the texts are shorter.

    Raises:
        SourceError: it does not answer, or does not count.
    """
    counts, num_words = [], (max(2, tokens // 24), max(4, tokens // 8))
    for number, length in enumerate(num_words):
        text = " ".join(words.draw(length, Random(f"{seed} calibration {number}")))
        answer = answer_to(server.address, server.request(text, 1, stream=False))
        usage = answer.get("usage")
        count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if not isinstance(count, int) or count < 1:
            raise SourceError("the server does not say how many tokens a prompt has")
        counts.append(count)
    return fitted(num_words, counts)


def fitted(words: Sequence[int], tokens: Sequence[int]) -> WordLengths:
    """The line through two points; at least one token for two words, whatever was counted."""
    slope = max(0.5, (tokens[1] - tokens[0]) / (words[1] - words[0]))
    return WordLengths(max(0.0, tokens[0] - slope * words[0]), slope)
