"""Guesses against the model's own choice."""

from __future__ import annotations

from apportion.engine.completion import Delta
from apportion.engine.executor import Rows
from apportion.engine.sequence import Sequence
from apportion.kernels.ops import Best, Ints


def verify(sequence: Sequence, drafts: Ints, rows: Rows) -> tuple[list[Delta], int]:
    """Take up tokens as long as the drafts foretold them, and the one after.

    The sequence chooses each token from the model's logits as it would without drafts, so what it chooses,
    by seed or greedily, is the same; a draft that it chose was computed already.

    Args:
        drafts: guesses [k] for the next tokens.
        rows: logits [1 + k, V], or the best of them, after the sequence's last token and after each draft.

    Returns:
        What was taken up, and how many of the drafts were right and stay.

    Source: Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
    arXiv:2211.17192, with a draft that is certain of its tokens.
    """
    deltas: list[Delta] = []
    for row in range(len(drafts) + 1):
        deltas.append(extended(sequence, rows, row))
        goes_on = sequence.finish_reason is None and row < len(drafts)
        if not goes_on or deltas[-1].token_id != drafts[row]:
            return deltas, row
    raise AssertionError("the row after the last draft ends the loop")


def extended(sequence: Sequence, rows: Rows, row: int) -> Delta:
    """Take up the token that a row says."""
    if isinstance(rows, Best):
        return sequence.extend_by_best(rows.ids[row], rows.logits[row])
    return sequence.extend(rows[row])
