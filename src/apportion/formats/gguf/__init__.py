"""GGUF files: bounded reading, and writing."""

from __future__ import annotations

from apportion.formats.gguf.checkpoint import GgufCheckpoint, open_gguf
from apportion.formats.gguf.values import TypedList, ValueType
from apportion.formats.gguf.writer import NewTensor, write_gguf

__all__ = ["GgufCheckpoint", "NewTensor", "TypedList", "ValueType", "open_gguf", "write_gguf"]
