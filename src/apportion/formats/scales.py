"""Where a block keeps its floating-point scales, and which of them are not finite.

One NaN or infinity there spoils a whole block, and every token with it. Only the scales are looked at, not
each code, so that this is as quick as reading the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import BlockFormat, Bytes

# An unsigned integer type, its offset in the block, and the bits that are all set in a NaN or an infinity.
Field = tuple[str, int, int]

_F16 = ("<u2", 0x7C00)


def _halves(*offsets: int) -> tuple[Field, ...]:
    return tuple((_F16[0], offset, _F16[1]) for offset in offsets)


SCALE_FIELDS: dict[str, tuple[Field, ...]] = {
    "f64": (("<u8", 0, 0x7FF0 << 48),),
    "f32": (("<u4", 0, 0x7F80 << 16),),
    "f16": _halves(0),
    "bf16": (("<u2", 0, 0x7F80),),
    "f8_e4m3": (("u1", 0, 0x7F),),
    "f8_e5m2": (("u1", 0, 0x7C),),
    "f8_e8m0": (("u1", 0, 0xFF),),
    "mxfp4": (("u1", 0, 0xFF),),
    "q8_k": (("<u4", 0, 0x7F80 << 16),),
    **dict.fromkeys(("q4_0", "q5_0", "q8_0", "q1_0", "q2_0", "iq4_nl", "iq4_xs"), _halves(0)),
    **dict.fromkeys(("q4_1", "q5_1", "q8_1", "q4_k", "q5_k"), _halves(0, 2)),
    **dict.fromkeys(("iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq1_s"), _halves(0)),
    "q2_k": _halves(80, 82),
    "q3_k": _halves(108),
    "q6_k": _halves(208),
    "tq1_0": _halves(52),
    "tq2_0": _halves(64),
}


def count_not_finite(block_format: BlockFormat, data: Bytes, num_rows: int = 1) -> tuple[int, int]:
    """How many of the blocks in `data` [n * block_nbytes] have a scale that is not finite, and the index of
    the first of them (-1 when there is none).

    Args:
        num_rows: rows whose blocks are interleaved; see `formats.panels`.
    """
    bad = _not_finite(block_format, data, num_rows).reshape(-1)
    count = int(np.count_nonzero(bad))
    return count, int(np.argmax(bad)) if count else -1


def _not_finite(block_format: BlockFormat, data: Bytes, num_rows: int) -> NDArray[np.bool_]:
    num_blocks = data.size // block_format.block_nbytes
    if block_format.name == "iq1_m":
        return _all_set(_iq1_m_scale(data.reshape(num_blocks, -1)), _F16[1])
    bad = np.zeros((num_blocks // num_rows, num_rows), np.bool_)
    for dtype, offset, mask in SCALE_FIELDS.get(block_format.name, ()):
        # A scale is one element of a block: those of interleaved rows lie side by side.
        layout = np.dtype(
            {
                "names": ["x"],
                "formats": [(dtype, (num_rows,))],
                "offsets": [num_rows * offset],
                "itemsize": num_rows * block_format.block_nbytes,
            }
        )
        bad |= _all_set(data.view(layout)["x"], mask)
    return bad


def _iq1_m_scale(blocks: Bytes) -> NDArray[np.uint16]:
    """Its f16 lies in the highest nibbles of the four 16-bit words at the block's end, the lowest first."""
    words = np.ascontiguousarray(blocks[:, 48:56]).view("<u2") >> np.uint16(12)
    nibbles = words << np.arange(0, 16, 4, dtype=np.uint16)
    scale: NDArray[np.uint16] = np.bitwise_or.reduce(nibbles, axis=1)
    return scale


def _all_set(values: NDArray[Any], mask: int) -> NDArray[np.bool_]:
    bits = values.dtype.type(mask)
    result: NDArray[np.bool_] = (values & bits) == bits
    return result
