"""GGUF files: bounded reading, and writing."""

from __future__ import annotations

from apportion.formats.gguf.checkpoint import GgufCheckpoint, open_gguf
from apportion.formats.gguf.shards import shard_paths
from apportion.formats.gguf.values import TypedList, ValueType
from apportion.formats.gguf.writer import NewTensor, encode_header, write_gguf

__all__ = [
    "GgufCheckpoint",
    "NewTensor",
    "TypedList",
    "ValueType",
    "encode_header",
    "open_gguf",
    "shard_paths",
    "write_gguf",
]
