"""A text in windows, as llama.cpp's perplexity tool cuts it, so that figures compare.

The text is tokenized once. Windows of `ctx` tokens follow each other without overlap, the rest is left out.
Where the model begins texts with a BOS, it takes the place of each window's first token. Only the second half
of a window is scored, so that every scored token has at least half a window before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.errors import UsageError
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.models import KvCache, Model
    from apportion.text.tokenizer import Tokenizer

CHUNK = 512  # tokens per pass
LOGITS_NBYTES = 16 << 20  # of logits at a time; a whole window's would be 2 GB at 262k x 2048
# What scoring takes beside the model: logits, what is made of them, and the hidden states of a window.
SCORING_NBYTES = 2 * LOGITS_NBYTES + (16 << 20)


def text_windows(text: str, tokenizer: Tokenizer, ctx: int, limit: int | None = None) -> list[Ints]:
    """Token ids of each window, [ctx] int32, as the text has them.

    Raises:
        UsageError: the text is shorter than two windows, or ctx is below 4.
    """
    if ctx < 4:
        raise UsageError("ctx is too small to score half of it", ctx=ctx)
    ids = np.array(tokenizer.encode(text, add_special=True, parse_special=False), dtype=np.int32)
    if len(ids) < 2 * ctx:
        raise UsageError(
            "the text is too short to judge by",
            "at least two windows are needed",
            "take a longer text, or a smaller --ctx",
            tokens=len(ids),
            needed=2 * ctx,
        )
    count = len(ids) // ctx
    return [ids[i * ctx : (i + 1) * ctx] for i in range(min(count, limit or count))]


def window_input(window: Ints, bos_id: int | None) -> Ints:
    """What the model reads: the window, with BOS in the place of its first token where the model has one."""
    if bos_id is None:
        return window
    return np.concatenate([np.array([bos_id], dtype=np.int32), window[1:]])


def first_scored(ctx: int) -> int:
    """The first position whose logits are scored."""
    return ctx // 2


def hidden_states(model: Model, ids: Ints, cache: KvCache, first: int) -> Floats:
    """The last layer's states of positions first..len(ids)-2, [n, H]; the cache is emptied before.

    The last position is left out: what it predicts lies in the next window.
    """
    cache.truncate(0)
    parts = []
    step = min(CHUNK, cache.tokens_at_once or CHUNK)
    for start in range(0, len(ids), step):
        run = ids[start : start + step]
        x = model.run_layers(model.embed(run), cache)
        cache.advance(len(run))
        parts.append(x[max(0, first - start) :])
    return np.concatenate(parts)[:-1]


def row_runs(num_rows: int, vocab_size: int) -> Iterator[slice]:
    """Runs of rows whose logits together stay within `LOGITS_NBYTES`."""
    step = max(1, LOGITS_NBYTES // (4 * vocab_size))
    for start in range(0, num_rows, step):
        yield slice(start, min(start + step, num_rows))


def log_normalizers(logits: Floats) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """log of the sum of exp of each row, [n, V] -> [n] float64, summed in double."""
    largest = logits.max(axis=1, keepdims=True)
    shifted = logits - largest
    sums = np.exp(shifted, out=shifted).sum(axis=1, dtype=np.float64)
    total: np.ndarray[tuple[int], np.dtype[np.float64]] = largest[:, 0].astype(np.float64) + np.log(sums)
    return total
