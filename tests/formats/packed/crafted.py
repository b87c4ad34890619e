"""Packed files put together by hand, so that each part of them can be wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import NewTensor, write_gguf


def _part(offset: int, block_format: str, shape: list[int], interleaved: bool) -> dict[str, Any]:
    return {"offset": offset, "format": block_format, "shape": shape, "interleaved": interleaved}


LAYOUT: dict[str, Any] = {
    "interleaved": ["token_embd.weight"],
    "experts": {
        "0": {
            "ffn_gate_exps.weight": _part(0, "f32", [16, 64], True),
            "ffn_up_exps.weight": _part(4096, "f32", [16, 64], True),
            "ffn_down_exps.weight": _part(8192, "q8_0", [64, 32], False),
        }
    },
}
STRIDE = 12288


def _zeros(nbytes: int) -> Any:
    return np.zeros(nbytes, np.uint8)


@dataclass
class Crafted:
    """A valid packed file of one layer with two experts; change any part, then `write`."""

    layout: Any = field(default_factory=lambda: copy.deepcopy(LAYOUT))
    experts: tuple[int, ...] = (2, STRIDE)
    num_digests: int = 5  # header, embedding, small file, two experts
    alignment: int = 4096
    metadata: dict[str, Any] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)

    @property
    def gate(self) -> dict[str, Any]:
        """The first matrix of the layer's experts."""
        found = self.layout["experts"]["0"]["ffn_gate_exps.weight"]
        assert isinstance(found, dict)
        return found

    def write(self, folder: Path) -> Path:
        text = self.layout if isinstance(self.layout, str) else json.dumps(self.layout)
        metadata = {
            "general.architecture": "apportion",
            "apportion.pack.version": 1,
            "apportion.pack.source": "gguf",
            "apportion.pack.architecture": "olmoe",
            "apportion.pack.layout": text,
            "olmoe.block_count": 1,
        }
        metadata |= self.metadata
        tensors = [
            self._tensor("apportion.digests", "i8", (self.num_digests, 32)),
            self._tensor("token_embd.weight", "f32", (32, 64)),
            self._tensor("apportion.file.tokenizer.json", "i8", (5,)),
            self._tensor("blk.0.experts", "i8", self.experts),
        ]
        path = folder / "packed.gguf"
        kept = {key: value for key, value in metadata.items() if value is not None}
        write_gguf(path, kept, tensors, self.alignment)
        return path

    def _tensor(self, name: str, block_format: str, shape: tuple[int, ...]) -> NewTensor:
        chosen = format_by_name(self.formats.get(name, block_format))
        nbytes = int(np.prod(shape)) * chosen.block_nbytes
        return NewTensor(self.names.get(name, name), chosen, shape, _zeros(nbytes))


Change = Callable[[Crafted], None]
