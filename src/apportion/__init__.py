"""apportion: run large language models inside a memory budget that you state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion.compress import Packed, pack
    from apportion.engine import LLM, Completion, SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "Completion", "Packed", "SamplingParams", "__version__", "pack"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import apportion` and `apportion --help` stay fast.
    if name in ("Packed", "pack"):
        from apportion import compress

        return getattr(compress, name)
    if name in __all__:
        from apportion import engine

        return getattr(engine, name)
    raise AttributeError(f"module 'apportion' has no attribute {name!r}")
