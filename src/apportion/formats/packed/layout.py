"""What a packed file says about itself beside GGUF's table: which matrices lie in panels, and where the
matrices of an expert lie within its unit. One JSON text in the metadata, checked against the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apportion.core.errors import ApportionError, BadFile
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import format_by_name
from apportion.formats.bounded_json import parse_json_bounded
from apportion.formats.panels import has_panels

ARCHITECTURE = "apportion"
VERSION = 1
PAGE_NBYTES = 4096  # what direct reads begin at
EXPERTS = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")
MAX_DEPTH = 5
MAX_LAYERS = 1 << 10


class Keys:
    """Names in a packed file."""

    PREFIX = "apportion.pack."
    VERSION = "apportion.pack.version"
    SOURCE = "apportion.pack.source"
    ARCHITECTURE = "apportion.pack.architecture"
    LAYOUT = "apportion.pack.layout"
    DIGESTS = "apportion.digests"
    FILE = "apportion.file."

    @staticmethod
    def experts(layer: int) -> str:
        """The tensor of a layer's experts, bytes [num_experts, stride]."""
        return f"blk.{layer}.experts"


@dataclass(frozen=True, slots=True)
class Part:
    """One matrix [rows, cols] of an expert, `offset` bytes into its unit."""

    offset: int
    format: BlockFormat
    shape: tuple[int, int]
    interleaved: bool

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.format.row_nbytes(self.shape[1])


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """
    Attributes:
        interleaved: names of tensors whose matrices lie in panels.
        experts: per layer that has experts, the matrices of each unit by their names within the layer.
    """

    interleaved: tuple[str, ...]
    experts: Mapping[int, Mapping[str, Part]]


def encode_layout(layout: PackedLayout) -> str:
    """The layout as the text that `parse_layout` reads."""
    experts = {
        str(layer): {
            name: {
                "offset": part.offset,
                "format": part.format.name,
                "shape": list(part.shape),
                "interleaved": part.interleaved,
            }
            for name, part in parts.items()
        }
        for layer, parts in layout.experts.items()
    }
    return json.dumps({"interleaved": list(layout.interleaved), "experts": experts}, separators=(",", ":"))


def parse_layout(text: Any) -> PackedLayout:
    """Read and check a layout on its own; whether it fits the file is checked by who knows the file.

    Raises:
        BadFile, LimitExceeded: it is malformed.
        Unsupported: a block format that this version does not know.
    """
    if not isinstance(text, str):
        raise bad(f"{Keys.LAYOUT} is not a text")
    value = parse_json_bounded(text.encode(), Keys.LAYOUT, MAX_DEPTH)
    names = value.get("interleaved") if isinstance(value, dict) else None
    experts = value.get("experts") if isinstance(value, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise bad("it does not name the matrices that lie in panels")
    if not isinstance(experts, dict) or len(experts) > MAX_LAYERS:
        raise bad("it does not say where experts lie")
    return PackedLayout(tuple(names), {_layer(key): _parts(key, parts) for key, parts in experts.items()})


def _layer(key: str) -> int:
    if not (key.isascii() and key.isdigit() and len(key) <= 4 and str(int(key)) == key):
        raise bad(f"{key[:40]!a} is no layer")
    return int(key)


def _parts(layer: str, value: Any) -> dict[str, Part]:
    if not isinstance(value, dict) or value.keys() != set(EXPERTS):
        raise bad(f"layer {layer} does not have exactly {', '.join(EXPERTS)}")
    parts = {name: _part(f"{name} of layer {layer}", entry) for name, entry in value.items()}
    end = 0
    for name, part in sorted(parts.items(), key=lambda item: item[1].offset):
        if part.offset < end:
            raise bad(f"{name} of layer {layer} overlaps another matrix", offset=part.offset, end=end)
        end = part.offset + part.nbytes
    return parts


def _part(what: str, value: Any) -> Part:
    fields = value if isinstance(value, dict) else {}
    offset, name, shape, interleaved = (
        fields.get(key) for key in ("offset", "format", "shape", "interleaved")
    )
    if type(offset) is not int or not 0 <= offset < 1 << 48:
        raise bad(f"{what} has no proper offset")
    if not isinstance(shape, list) or len(shape) != 2 or not all(_is_count(count) for count in shape):
        raise bad(f"{what} has no proper shape")
    if not isinstance(name, str) or not isinstance(interleaved, bool):
        raise bad(f"{what} does not say how it is stored")
    block_format = format_by_name(name[:40])
    if shape[1] % block_format.block_size:
        raise bad(f"rows of {what} are not whole blocks", columns=shape[1], format=block_format.name)
    require_panels(what, block_format, shape[0], interleaved)
    return Part(offset, block_format, (shape[0], shape[1]), interleaved)


def require_panels(what: str, block_format: BlockFormat, num_rows: int, interleaved: bool) -> None:
    """Refuse panels of what cannot lie in panels."""
    if interleaved and not has_panels(block_format, num_rows):
        raise bad(f"{what} cannot lie in panels", format=block_format.name, rows=num_rows)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value < 1 << 32


def bad(why: str, **numbers: object) -> ApportionError:
    """The error for a packed file whose own words contradict themselves or the file."""
    return BadFile("the layout of the packed file is broken", why, "pack the model anew", **numbers)
