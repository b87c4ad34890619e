"""What each API's answers look like: pure writers, one file for each."""

from apportion.serve.dialects.writer import Writer

__all__ = ["Writer"]
