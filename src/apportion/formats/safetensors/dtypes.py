"""The number types of safetensors as block formats. Those that GGUF has too are the same objects; the rest
can be listed and verified, and some of them decoded.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apportion.core.errors import Unsupported
from apportion.formats.block import BlockFormat, Bytes, Floats
from apportion.formats.blocks import format_by_name

NOT_IN_GGML = -1


def _decode_as(dtype: str) -> Callable[[Bytes], Floats]:
    def decode(blocks: Bytes) -> Floats:
        return blocks.view(dtype).astype(np.float32)

    return decode


def _refuse(name: str) -> Callable[[Bytes], Floats]:
    def decode(blocks: Bytes) -> Floats:
        raise Unsupported(
            f"numbers of type {name} are not read yet",
            "they need scales that lie in other tensors",
            "use a GGUF file, or the model in bf16",
        )

    return decode


def _extra(name: str, nbytes: int, decode: Callable[[Bytes], Floats], block_size: int = 1) -> BlockFormat:
    return BlockFormat(name, NOT_IN_GGML, block_size, nbytes, decode)


DTYPES: dict[str, BlockFormat] = {
    **{
        name: format_by_name(name.lower())
        for name in ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8")
    },
    "U64": _extra("u64", 8, _decode_as("<u8")),
    "U32": _extra("u32", 4, _decode_as("<u4")),
    "U16": _extra("u16", 2, _decode_as("<u2")),
    "U8": _extra("u8", 1, _decode_as("u1")),
    "BOOL": _extra("bool", 1, _decode_as("?")),
    "F8_E4M3": _extra("f8_e4m3", 1, _refuse("F8_E4M3")),
    "F8_E5M2": _extra("f8_e5m2", 1, _refuse("F8_E5M2")),
    "F8_E8M0": _extra("f8_e8m0", 1, _refuse("F8_E8M0")),
    "F4": _extra("f4", 1, _refuse("F4"), block_size=2),
}
