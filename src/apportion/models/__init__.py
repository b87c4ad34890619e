"""Model families as data, and the one forward pass that runs them all."""

from apportion.models.cache import KvCache
from apportion.models.config import ModelConfig
from apportion.models.footprint import (
    bytes_per_pass,
    bytes_per_token,
    kv_bytes_per_token,
    kv_bytes_seen,
    kv_nbytes,
)
from apportion.models.loading import config_from_checkpoint, load_model
from apportion.models.model import Model

__all__ = [
    "KvCache",
    "Model",
    "ModelConfig",
    "bytes_per_pass",
    "bytes_per_token",
    "config_from_checkpoint",
    "kv_bytes_per_token",
    "kv_bytes_seen",
    "kv_nbytes",
    "load_model",
]
