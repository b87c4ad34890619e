"""GGUF files: bounded reading, and writing."""

from __future__ import annotations

from apportion.formats.gguf.checkpoint import GgufCheckpoint, open_gguf
from apportion.formats.gguf.values import TypedList, ValueType

__all__ = ["GgufCheckpoint", "TypedList", "ValueType", "open_gguf"]
