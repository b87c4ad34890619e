"""How keys and values are stored: the codec of a row, and the head page that its rows lie in.

A head page holds 32 positions of one layer and one KV head. Rows come first, then what scales them:

    | keys, a row for each position | values | scales of the keys | offsets | scales of the values | offsets |

A codec with scales stores a number x as a code: x = scale * code + offset. Scales and offsets are f16, one
for each row, so that a page needs nothing beside itself and a position is copied without being encoded again.
Where values are the first numbers of the keys (latent attention), the page has keys and their scales only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import Bytes, Floats

BLOCK_TOKENS = 32  # positions in a page
HALF_NBYTES = 2

Halves = NDArray[np.float16]


class KvCodec:
    """One way to store rows of numbers.

    Attributes:
        number: the core's name of how a row is stored (native/kv_codes.h).
        num_scales: f16 numbers beside each row: none, a scale, or a scale and an offset.
        hot: the codec of the first block and of the last positions of a sequence, whose rows are encoded when
            they leave that window; None where rows are encoded at once.
        smooth: keys are divided, and queries multiplied, by a factor for each channel before.
        lossless: whether attention over it gives the same bits as over f16.
        summary, source: for the table of codecs in the documentation.
    """

    number: ClassVar[int]
    num_scales: ClassVar[int] = 0
    hot: ClassVar[str | None] = None
    smooth: ClassVar[bool] = False
    lossless: ClassVar[bool] = False
    summary: ClassVar[str]
    source: ClassVar[str] = ""

    def row_nbytes(self, width: int) -> int:
        """Bytes of the codes of `width` numbers."""
        raise NotImplementedError

    def encode_rows(self, x: Floats) -> tuple[Bytes, Halves]:
        """x [n, W] -> codes [n, row_nbytes], scales [num_scales, n]. A row with a number that is not finite
        decodes to no numbers where it has a scale: damage is passed on, not hidden.
        """
        raise NotImplementedError

    def decode_rows(self, codes: Bytes, scales: Halves, width: int) -> Floats:
        """The numbers [n, W] of what `encode_rows` made."""
        raise NotImplementedError


@dataclass(frozen=True)
class HeadLayout:
    """Where things lie in a head page.

    Args:
        joint: values are the first numbers of the keys.
    """

    codec: KvCodec
    key_width: int
    value_width: int
    joint: bool = False

    @cached_property
    def key_nbytes(self) -> int:
        """Bytes of a key's row."""
        return self.codec.row_nbytes(self.key_width)

    @cached_property
    def value_nbytes(self) -> int:
        """Bytes of a value's row; 0 where values are a part of the keys."""
        return 0 if self.joint else self.codec.row_nbytes(self.value_width)

    @cached_property
    def values_offset(self) -> int:
        return BLOCK_TOKENS * self.key_nbytes

    @cached_property
    def scales_offset(self) -> int:
        return self.values_offset + BLOCK_TOKENS * self.value_nbytes

    @cached_property
    def nbytes(self) -> int:
        """Bytes of a page, to the last scale."""
        rows = 1 if self.joint else 2
        return self.scales_offset + rows * self.codec.num_scales * BLOCK_TOKENS * HALF_NBYTES

    def encode(self, page: Bytes, first: int, keys: Floats, values: Floats | None) -> None:
        """Write keys [n, D] and values [n, Dv] to places first.. of a page."""
        self._write(page, first, 0, self.key_nbytes, 0, keys)
        if values is not None:
            assert not self.joint
            self._write(page, first, self.values_offset, self.value_nbytes, 1, values)

    def decode(self, page: Bytes, count: int = BLOCK_TOKENS) -> tuple[Floats, Floats]:
        """The first `count` keys [n, D] and values [n, Dv] of a page."""
        keys = self._read(page, count, 0, self.key_nbytes, 0, self.key_width)
        if self.joint:
            return keys, keys[:, : self.value_width]
        return keys, self._read(page, count, self.values_offset, self.value_nbytes, 1, self.value_width)

    def _scales(self, page: Bytes, kind: int) -> Halves:
        """The scales of keys (0) or of values (1): a view [num_scales, 32]."""
        nbytes = self.codec.num_scales * BLOCK_TOKENS * HALF_NBYTES
        start = self.scales_offset + kind * nbytes
        return page[start : start + nbytes].view(np.float16).reshape(self.codec.num_scales, BLOCK_TOKENS)

    def _write(self, page: Bytes, first: int, offset: int, nbytes: int, kind: int, x: Floats) -> None:
        codes, scales = self.codec.encode_rows(np.asarray(x, np.float32))
        rows = page[offset : offset + BLOCK_TOKENS * nbytes].reshape(BLOCK_TOKENS, nbytes)
        rows[first : first + len(x)] = codes
        self._scales(page, kind)[:, first : first + len(x)] = scales

    def _read(self, page: Bytes, count: int, offset: int, nbytes: int, kind: int, width: int) -> Floats:
        rows = page[offset : offset + count * nbytes].reshape(count, nbytes)
        return self.codec.decode_rows(rows, self._scales(page, kind)[:, :count], width)


def no_scales(num_rows: int) -> Halves:
    return np.empty((0, num_rows), np.float16)


def to_half(x: Floats) -> Halves:
    """Rounded to nearest; what is too large becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16)


def inverse(scale: Floats) -> Floats:
    """1 / scale, and 0 where that is 0: a row of equal numbers has codes of 0."""
    out = np.zeros_like(scale)
    np.divide(np.float32(1), scale, out=out, where=scale != 0)
    return out
