"""Offline shaping: models rewritten so that they suit a budget."""

from apportion.compress.packing import Packed, pack

__all__ = ["Packed", "pack"]
