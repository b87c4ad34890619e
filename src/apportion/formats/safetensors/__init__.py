"""Safetensors files and the Hugging Face folders that hold them: bounded reading."""

from __future__ import annotations

from apportion.formats.safetensors.checkpoint import SafetensorsCheckpoint, open_safetensors

__all__ = ["SafetensorsCheckpoint", "open_safetensors"]
