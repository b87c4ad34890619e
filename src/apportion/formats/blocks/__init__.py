"""Block formats: everything a GGUF file can hold, how to find it, and what it is kept as in memory."""

from apportion.formats.blocks.load import Load, load_as, load_format
from apportion.formats.blocks.table import FORMATS, format_by_ggml_type, format_by_name

__all__ = ["FORMATS", "Load", "format_by_ggml_type", "format_by_name", "load_as", "load_format"]
