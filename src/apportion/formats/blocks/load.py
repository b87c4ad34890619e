"""What a tensor is kept as in memory: as it is stored where the kernels compute on its format, else as the
smallest format of theirs that holds the same numbers.

No number changes, with one exception that cannot be helped: f64, i32 and i64 are rounded to the nearest f32.

    stored                   kept     why it is exact
    tq1_0 tq2_0              q2_k     d * code - d, with code one more than the level
    q1_0 q2_0                q4_0     d * (code - 8), the same d for each 32 of the numbers
    iq3_s                    q6_k     d, the odd scales up to 31 and the odd codes up to 15 fit as they are
    q8_1                     q8_0     the same without the sum
    nvfp4                    f16      a scale of 4 significant bits times a code of 2
    iq1_s iq1_m iq2_xxs      f32      d * (2 s + 1) * code has up to 22 significant bits: more than f16 has,
    iq2_xs iq2_s iq3_xxs              and no native format has codes and scales for all such products
    q8_k f64 i8 i16 i32 i64  f32

iq1 and iq3_xxs would fit q6_k but for d, which would have to be divided by 8 or 2: that is not exact where d
is among the smallest f16 numbers, which ordinary weights lead to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import CHUNK_NUMBERS, BlockFormat, Bytes
from apportion.formats.blocks import iquants, kquants, legacy, ternary
from apportion.formats.blocks.layout import record_bytes, records
from apportion.formats.blocks.table import FORMATS

Recode = Callable[[Bytes], Bytes]


@dataclass(frozen=True, slots=True)
class Load:
    """How tensors of one stored format get into memory.

    Attributes:
        stored: the format in the file.
        kept: the format in memory; native.
        recode: stored blocks [n, stored.block_nbytes] -> the same numbers in blocks [m, kept.block_nbytes].
        rounds: whether numbers may be rounded.
    """

    stored: BlockFormat
    kept: BlockFormat
    recode: Recode
    rounds: bool = False

    @property
    def growth(self) -> float:
        """Bytes in memory per byte in the file."""
        return self.kept.bits_per_weight / self.stored.bits_per_weight

    @property
    def note(self) -> str:
        """What it costs, for people; empty when the tensor is kept as it is stored."""
        if self.kept is self.stored:
            return ""
        manner = "rounded to nearest" if self.rounds else "the same numbers"
        return (
            f"{self.stored.name} is kept as {self.kept.name} ({manner}, {self.kept.bits_per_weight:g} bits "
            f"each): {self.growth:.1f} times its size in the file"
        )

    def rows(self, data: Bytes) -> Bytes:
        """Stored rows [..., row_nbytes] -> kept rows [..., row_nbytes]; `data` itself when nothing changes.

        Beside C-contiguous `data` and the result it takes a few MiB.
        """
        if self.kept is self.stored:
            return data
        num_cols = self.stored.num_cols(data.shape[-1])
        out = np.empty((*data.shape[:-1], self.kept.row_nbytes(num_cols)), np.uint8)
        self.rows_into(data, out)
        return out

    def rows_into(self, data: Bytes, out: Bytes) -> None:
        """As `rows`, into `out`, C-contiguous."""
        assert out.flags.c_contiguous, "out must be C-contiguous"
        blocks = np.ascontiguousarray(data).reshape(-1, self.stored.block_nbytes)
        kept = out.reshape(-1)
        step = CHUNK_NUMBERS // self.stored.block_size
        step_nbytes = self.kept.row_nbytes(step * self.stored.block_size)
        with np.errstate(all="ignore"):  # as when decoding: inf and NaN stay what they are
            for index, first in enumerate(range(0, len(blocks), step)):
                start = index * step_nbytes
                kept[start : start + step_nbytes] = self.recode(blocks[first : first + step]).reshape(-1)


def _as_is(blocks: Bytes) -> Bytes:
    return blocks


def _decoded(stored: BlockFormat, dtype: str) -> Recode:
    """Recode to plain numbers."""
    nbytes = np.dtype(dtype).itemsize

    def recode(blocks: Bytes) -> Bytes:
        return stored.decode(blocks).astype(dtype, copy=False).view(np.uint8).reshape(-1, nbytes)

    return recode


def _tq1_0_as_q2_k(blocks: Bytes) -> Bytes:
    d = records(blocks, ternary.TQ1_0)["d"]
    return kquants.blocks_q2_k(d, d, np.uint8(0x11), ternary.codes_tq1_0(blocks))


def _tq2_0_as_q2_k(blocks: Bytes) -> Bytes:
    d = records(blocks, ternary.TQ2_0)["d"]
    return kquants.blocks_q2_k(d, d, np.uint8(0x11), ternary.codes_tq2_0(blocks))


def _levels_as_q4_0(d: NDArray[np.float16], codes: Bytes) -> Bytes:
    per_block = codes.shape[1] // 32
    return legacy.blocks_q4_0(np.repeat(d, per_block), codes.reshape(-1, 32) + np.uint8(7))


def _q1_0_as_q4_0(blocks: Bytes) -> Bytes:
    return _levels_as_q4_0(records(blocks, ternary.Q1_0)["d"], ternary.codes_q1_0(blocks))


def _q2_0_as_q4_0(blocks: Bytes) -> Bytes:
    return _levels_as_q4_0(records(blocks, ternary.Q2_0)["d"], ternary.codes_q2_0(blocks))


def _iq3_s_as_q6_k(blocks: Bytes) -> Bytes:
    parts = iquants.parts_iq3_s(blocks)
    scales = np.repeat(2 * parts.scales + 1, 2, axis=1).astype(np.int8)
    codes = (parts.codes + np.int8(32)).view(np.uint8)
    return kquants.blocks_q6_k(parts.d[:, 0].astype(np.float16), scales, codes)


def _q8_1_as_q8_0(blocks: Bytes) -> Bytes:
    stored = records(blocks, legacy.Q8_1)
    kept = np.empty(len(stored), legacy.Q8_0)
    kept["d"], kept["qs"] = stored["d"], stored["qs"]
    return record_bytes(kept)


_RECODED: dict[str, tuple[str, Recode]] = {
    "tq1_0": ("q2_k", _tq1_0_as_q2_k),
    "tq2_0": ("q2_k", _tq2_0_as_q2_k),
    "q1_0": ("q4_0", _q1_0_as_q4_0),
    "q2_0": ("q4_0", _q2_0_as_q4_0),
    "iq3_s": ("q6_k", _iq3_s_as_q6_k),
    "q8_1": ("q8_0", _q8_1_as_q8_0),
}
_ROUNDED = ("f64", "i32", "i64")


@cache
def load_as(stored: BlockFormat) -> Load:
    """How tensors of this stored format, be it ggml's or another, get into memory."""
    if stored.native:
        return Load(stored, stored, _as_is)
    if stored.name in _RECODED:
        name, recode = _RECODED[stored.name]
        return Load(stored, FORMATS[name], recode)
    if stored.name == "nvfp4":
        return Load(stored, FORMATS["f16"], _decoded(stored, "<f2"))
    return Load(stored, FORMATS["f32"], _decoded(stored, "<f4"), rounds=stored.name in _ROUNDED)


def load_format(stored: BlockFormat) -> BlockFormat:
    """The format that tensors of this stored format are kept in."""
    return load_as(stored).kept
