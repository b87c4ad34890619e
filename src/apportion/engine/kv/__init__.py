"""Keys and values of many sequences: blocks, who holds them, and what was promised of them."""

from apportion.engine.kv.blocks import BlockPool
from apportion.engine.kv.space import KvSpace, Room

__all__ = ["BlockPool", "KvSpace", "Room"]
