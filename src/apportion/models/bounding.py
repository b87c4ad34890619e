"""Whether the best token is found by bounds (`Ops.best`), or among all logits."""

from __future__ import annotations

MOST = 0.3  # of the head multiplied whole: more, and its bounds cost more than they spare
PAUSE = 16  # turns without bounds before they are tried again
LATELY = 0.25  # what the last turn weighs


class Bounding:
    """Remembers how much the last turns spared: bounds say little of logits that are alike, as after tokens
    that make no text.
    """

    def __init__(self) -> None:
        self._share = 0.0
        self._pause = 0

    def pays(self) -> bool:
        """Whether to try it; asked once a turn."""
        if not self._pause:
            return True
        self._pause -= 1
        return False

    def took(self, share: float) -> None:
        """A turn multiplied this share of the head whole."""
        self._share += (share - self._share) * LATELY
        if self._share > MOST:
            self._pause = PAUSE
