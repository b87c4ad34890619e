"""Packed files: GGUF files of our own, in which weights lie as they are used, so that one read brings what is
needed. `compress.packing` writes them; what they hold is told in `docs/pack.md`.
"""

from apportion.formats.packed.checkpoint import PackedCheckpoint, is_packed
from apportion.formats.packed.layout import (
    ARCHITECTURE,
    EXPERTS,
    PAGE_NBYTES,
    VERSION,
    Keys,
    PackedLayout,
    Part,
    encode_layout,
    parse_layout,
)

__all__ = [
    "ARCHITECTURE",
    "EXPERTS",
    "PAGE_NBYTES",
    "VERSION",
    "Keys",
    "PackedCheckpoint",
    "PackedLayout",
    "Part",
    "encode_layout",
    "is_packed",
    "parse_layout",
]
