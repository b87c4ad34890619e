"""Where models come from: paths, the Hugging Face hub, Python packages, built-in aliases."""

from apportion.sources.reference import parse_reference
from apportion.sources.resolve import resolve
from apportion.sources.resolved import Progress, ResolvedModel

__all__ = ["Progress", "ResolvedModel", "parse_reference", "resolve"]
