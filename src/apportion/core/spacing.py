"""How far apart large pieces of memory lie that may be read side by side, as gate and up matrices are.

Zen 5 reads two streams faster at distances that are multiples of 16 KiB than at others, of 4 or 8 KiB for
instance; why is not known. SmolLM2 decodes 550 tokens a second in place of 475 with it, and OLMoE's experts
in slots take a fifth less time.
"""

from __future__ import annotations

from apportion.core.units import KiB

STEP = 16 * KiB
LARGE = 256 * KiB  # smaller pieces are not worth the gap


def spaced(nbytes: int) -> int:
    """From the beginning of a piece to that of the next one, at least."""
    return nbytes if nbytes < LARGE else -(-nbytes // STEP) * STEP
