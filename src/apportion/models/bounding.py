"""Whether the best token is found by bounds (`Ops.best`), or among all logits."""

from __future__ import annotations

MOST_ROWS = 4  # more share what is read of the head, and wait for products, which bounds do not spare
MOST = 0.3  # heads multiplied whole, of all rows: more, and bounds cost more than they spare
PAUSE = 16  # turns without bounds before they are tried again
LATELY = 0.25  # what the last turn weighs


class Bounding:
    """Remembers how much the last turns spared: bounds say little of logits that are alike, as after tokens
    that make no text.
    """

    def __init__(self) -> None:
        self._heads = 0.0
        self._pause = 0

    def pays(self, num_rows: int) -> bool:
        """Whether to try it; asked once a turn."""
        if num_rows > MOST_ROWS:
            return False
        if not self._pause:
            return True
        self._pause -= 1
        return False

    def took(self, heads: float) -> None:
        """A turn multiplied the head so many times: a share of it for each row."""
        self._heads += (heads - self._heads) * LATELY
        if self._heads > MOST:
            self._pause = PAUSE
