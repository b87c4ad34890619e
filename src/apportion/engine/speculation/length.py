"""How many tokens to guess at once: as many as were worth their time, by what was measured."""

from __future__ import annotations

MOST = 8
WEIGHT = 1 / 8  # of the last observation in an average
BEGINNING = 0.5  # the share of right guesses before any was judged
TRIAL = 6  # steps with guesses before it is judged whether they pay
FIRST_REST, LAST_REST = 16, 256  # steps without guesses, after which they are tried again
PLAIN_EVERY = 64  # steps after which one goes without guesses, to know what that takes


class Costs:
    """Seconds that steps take by how many tokens were guessed. One for all requests of an engine."""

    def __init__(self, most: int = MOST) -> None:
        self._seconds: list[float | None] = [None] * (most + 1)
        self._since_plain = 0

    @property
    def wants_plain(self) -> bool:
        """Whether a step without guesses should be timed."""
        return self._seconds[0] is None or self._since_plain >= PLAIN_EVERY

    def took(self, proposed: int, seconds: float) -> None:
        self._since_plain = self._since_plain + 1 if proposed else 0
        known = self._seconds[proposed]
        if known is None:
            self._seconds[proposed] = seconds
        else:  # a step that waited for something else says little about guesses
            self._seconds[proposed] = known + WEIGHT * (min(seconds, 4 * known) - known)

    def ratio(self, proposed: int) -> float:
        """A step with guesses against one without; between and beyond lengths that were seen, along a line.

        1.0 before anything was seen.
        """
        plain = self._seconds[0]
        seen = [length for length, seconds in enumerate(self._seconds) if length and seconds is not None]
        if not plain or not seen:
            return 1.0
        at_most = [length for length in seen if length <= proposed]
        at_least = [length for length in seen if length >= proposed]
        low = self._point(at_most[-1] if at_most else 0)
        high = self._point(at_least[0]) if at_least else low
        if low == high:  # known, or beyond what is: on from the last at its mean cost
            low = (0, plain) if low[0] != proposed else low
        return (low[1] + slope(low, high) * (proposed - low[0])) / plain

    def _point(self, length: int) -> tuple[int, float]:
        seconds = self._seconds[length]
        assert seconds is not None
        return length, seconds


def slope(low: tuple[int, float], high: tuple[int, float]) -> float:
    return 0.0 if high[0] == low[0] else (high[1] - low[1]) / (high[0] - low[0])


class AdaptiveLength:
    """One request's length of guesses. Off where guesses do not pay, and tried again after longer and longer
    rests.

    Args:
        most: the longest.
    """

    def __init__(self, costs: Costs, most: int = MOST) -> None:
        self._costs = costs
        self._most = most
        self._right = BEGINNING
        self._trial = TRIAL
        self._rest = 0
        self._next_rest = FIRST_REST

    def choose(self) -> int:
        """How many tokens to guess in the next step."""
        if self._costs.wants_plain:
            return 0
        if self._rest:
            self._rest -= 1
            self._trial = 0 if self._rest else TRIAL
            return 0
        best = max(range(1, self._most + 1), key=self.gain)
        if self._trial or self.gain(best) > 1:
            return best
        self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, LAST_REST)
        return 0

    def gain(self, length: int) -> float:
        """Tokens a second with guesses of this length against none."""
        tokens = sum(self._right**place for place in range(length + 1))
        return tokens / self._costs.ratio(length)

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        """What came of a step."""
        self._costs.took(proposed, seconds)
        if not proposed:
            return
        for place in range(min(accepted + 1, proposed)):
            self._right += WEIGHT * ((place < accepted) - self._right)
        self._trial = max(0, self._trial - 1)
        if not self._trial and self.gain(proposed) > 1:
            self._next_rest = FIRST_REST
