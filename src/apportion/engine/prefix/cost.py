"""What it takes to have a block's keys and values again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BlockCost:
    """Seconds, from a few figures of the machine and the model.

    Attributes:
        token_s: to compute one token at the beginning of a prompt.
        attended_token_s: what each token before it adds to that.
        reload_Bps: bytes a second that come back from the store; `reload_fixed_s` goes by for each block.
    """

    token_s: float = 1e-3
    attended_token_s: float = 0.0
    reload_Bps: float = 1e9  # noqa: N815
    reload_fixed_s: float = 0.0

    def recompute_s(self, num_before: int, num_tokens: int) -> float:
        """To compute `num_tokens` tokens that follow `num_before` others."""
        mean_before = num_before + (num_tokens - 1) / 2
        return num_tokens * (self.token_s + mean_before * self.attended_token_s)

    def reload_s(self, nbytes: int) -> float:
        """To read a block of `nbytes` bytes from the store."""
        return self.reload_fixed_s + nbytes / self.reload_Bps
