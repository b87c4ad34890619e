"""Where models come from: paths, the Hugging Face hub, Python packages, built-in aliases."""

from apportion.sources.aliases import ALIASES, Alias
from apportion.sources.catalog import CachedModel, cached_models, model_files, remove_model
from apportion.sources.reference import parse_reference
from apportion.sources.resolve import resolve
from apportion.sources.resolved import Progress, ResolvedModel
from apportion.sources.store import ModelFile, Store

__all__ = [
    "ALIASES",
    "Alias",
    "CachedModel",
    "ModelFile",
    "Progress",
    "ResolvedModel",
    "Store",
    "cached_models",
    "model_files",
    "parse_reference",
    "remove_model",
    "resolve",
]
