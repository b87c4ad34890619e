"""The server: HTTP APIs over the engine, metrics, and the page that shows where the memory went."""

from apportion.serve.config import ModelSpec, ServeConfig
from apportion.serve.limits import Limits

__all__ = ["Limits", "ModelSpec", "ServeConfig"]
