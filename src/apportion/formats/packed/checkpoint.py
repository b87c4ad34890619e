"""A packed file as a checkpoint: the model's own metadata, canonical tensors, and the units to verify."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from apportion.core.errors import Truncated, Unsupported
from apportion.formats.block import Bytes
from apportion.formats.bounded_json import MAX_CONFIG_NBYTES, parse_json_bounded
from apportion.formats.checkpoint import TensorInfo, Unit
from apportion.formats.gguf import GgufCheckpoint
from apportion.formats.opened import OpenedFiles
from apportion.formats.packed.layout import (
    ARCHITECTURE,
    PAGE_NBYTES,
    VERSION,
    Keys,
    PackedLayout,
    bad,
    parse_layout,
    require_panels,
)
from apportion.formats.side_files import require_small
from apportion.formats.streaming import DIGEST_NBYTES

KINDS = ("gguf", "safetensors")


def is_packed(metadata: Mapping[str, Any]) -> bool:
    """Whether a GGUF file with this metadata is one of ours."""
    return bool(metadata.get("general.architecture") == ARCHITECTURE)


class PackedCheckpoint(OpenedFiles):
    """An opened packed file; satisfies `formats.checkpoint.Checkpoint`. It takes over the files of `gguf`.

    Metadata, `kind` and the names of tensors are those that the model had before; `side_files` come from
    within.

    Raises:
        BadFile, Truncated, LimitExceeded: the file contradicts itself.
        Unsupported: a newer version wrote it.
    """

    packed = True

    def __init__(self, gguf: GgufCheckpoint) -> None:
        self.kind = _checked_kind(gguf)
        self._stored = sorted(gguf.tensors.values(), key=lambda tensor: tensor.offset)
        self._layout = parse_layout(gguf.metadata.get(Keys.LAYOUT))
        self._layers = {Keys.experts(layer): layer for layer in self._layout.experts}
        self.side_files = PackedFiles(gguf)
        super().__init__(gguf.sources, self._metadata(gguf), _canonical(gguf, self._layout))
        self._check_digests()

    def units(self) -> Iterator[Unit]:
        """What lies in the file, in its order, without gaps: the header, each tensor with the padding after
        it, each expert.
        """
        digests = iter(self._digests())
        yield Unit(self._named("header", 0, self._stored[0].offset), (), next(digests))
        for tensor in self._stored:
            if tensor.name == Keys.DIGESTS:
                yield Unit(self._named(tensor.name, tensor.offset, _padded(tensor.nbytes)), ())
            elif tensor.name in self._layers:
                for expert in range(tensor.shape[0]):
                    yield self._expert(tensor, expert, next(digests))
            else:
                stretch = self._named(tensor.name, tensor.offset, _padded(tensor.nbytes))
                held = self.tensors.get(tensor.name)
                yield Unit(stretch, () if held is None else (held,), next(digests))

    def _metadata(self, gguf: GgufCheckpoint) -> dict[str, Any]:
        if self.kind == "safetensors":
            config = parse_json_bounded(self.side_files.read("config.json", MAX_CONFIG_NBYTES), "config.json")
            if not isinstance(config, dict):
                raise bad("config.json is not an object")
            return config
        kept = {key: value for key, value in gguf.metadata.items() if not key.startswith(Keys.PREFIX)}
        return {**kept, "general.architecture": gguf.metadata.get(Keys.ARCHITECTURE)}

    def _expert(self, tensor: TensorInfo, expert: int, digest: str) -> Unit:
        layer, stride = self._layers[tensor.name], tensor.shape[1]
        offset = tensor.offset + expert * stride
        parts = tuple(
            TensorInfo(
                f"blk.{layer}.{name}",
                part.format,
                part.shape,
                tensor.file,
                offset + part.offset,
                part.nbytes,
                interleaved=part.interleaved,
            )
            for name, part in self._layout.experts[layer].items()
        )
        return Unit(self._named(f"{tensor.name}.{expert}", offset, stride), parts, digest)

    def _named(self, name: str, offset: int, nbytes: int) -> TensorInfo:
        return replace(self.stretch(0, offset, nbytes), name=name)

    def _num_digests(self) -> int:
        """One for the header, one for each unit but the digests themselves."""
        return sum(tensor.shape[0] if tensor.name in self._layers else 1 for tensor in self._stored)

    def _table(self) -> TensorInfo | None:
        return next((tensor for tensor in self._stored if tensor.name == Keys.DIGESTS), None)

    def _check_digests(self) -> None:
        table = self._table()
        if table is None or table.format.name != "i8" or table.shape != (self._num_digests(), DIGEST_NBYTES):
            raise bad(f"the tensor {Keys.DIGESTS!r} is missing or has the wrong shape")
        end = max(tensor.offset + _padded(tensor.nbytes) for tensor in self._stored)
        if end > self.file_sizes[0]:
            raise Truncated(
                f"{self.files[0].name} ends too early", "", "pack the model anew", need=end,
                have=self.file_sizes[0],
            )  # fmt: skip

    def _digests(self) -> list[str]:
        table = self._table()
        assert table is not None  # checked when the file was opened
        data = np.empty(table.nbytes, np.uint8)
        self.read(table, data)
        return [row.tobytes().hex() for row in data.reshape(table.shape)]


class PackedFiles:
    """The small files that a packed file carries, each as a tensor of bytes."""

    def __init__(self, gguf: GgufCheckpoint) -> None:
        self._gguf = gguf
        self._tensors = {
            name.removeprefix(Keys.FILE): tensor
            for name, tensor in gguf.tensors.items()
            if name.startswith(Keys.FILE)
        }

    @property
    def place(self) -> str:
        return self._gguf.files[0].name

    def names(self) -> list[str]:
        return list(self._tensors)

    def has(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str, max_nbytes: int) -> bytes:
        if name not in self._tensors:
            raise bad(f"there is no {name} in {self.place}")
        tensor = self._tensors[name]
        require_small(name, tensor.nbytes, max_nbytes)
        data: Bytes = np.empty(tensor.nbytes, np.uint8)
        self._gguf.read(tensor, data)
        return data.tobytes()


def _checked_kind(gguf: GgufCheckpoint) -> str:
    version, kind = gguf.metadata.get(Keys.VERSION), gguf.metadata.get(Keys.SOURCE)
    if type(version) is not int or version < 1:
        raise bad(f"{Keys.VERSION} is missing")
    if version != VERSION:
        raise Unsupported(
            f"{gguf.files[0].name} is a packed file of version {version}", f"version {VERSION} is read",
            "pack the model anew, or use a newer apportion",
        )  # fmt: skip
    if kind not in KINDS:
        raise bad(f"{Keys.SOURCE} is neither {' nor '.join(KINDS)}")
    if len(gguf.files) != 1 or gguf.alignment % PAGE_NBYTES or not gguf.tensors:
        raise bad("it is not one file of aligned tensors", files=len(gguf.files), alignment=gguf.alignment)
    return str(kind)


def _canonical(gguf: GgufCheckpoint, layout: PackedLayout) -> dict[str, TensorInfo]:
    """The model's tensors by name, those of experts as stacks with a stride."""
    ours = (Keys.DIGESTS, *(Keys.experts(layer) for layer in layout.experts))
    found = {
        name: tensor
        for name, tensor in gguf.tensors.items()
        if name not in ours and not name.startswith(Keys.FILE)
    }
    for name in layout.interleaved:
        if name not in found or len(found[name].shape) < 2:
            raise bad(f"there is no matrix {name[:80]!a}")
        require_panels(name, found[name].format, found[name].shape[-2], True)
        found[name] = replace(found[name], interleaved=True)
    for layer in layout.experts:
        for tensor in _stacks(gguf, layout, layer):
            if tensor.name in found:
                raise bad(f"{tensor.name!r} stands twice")
            found[tensor.name] = tensor
    return found


def _stacks(gguf: GgufCheckpoint, layout: PackedLayout, layer: int) -> Iterator[TensorInfo]:
    stored = gguf.tensors.get(Keys.experts(layer))
    if stored is None or stored.format.name != "i8" or len(stored.shape) != 2:
        raise bad(f"layer {layer} has no tensor of experts")
    count, stride = stored.shape
    if stride % PAGE_NBYTES:
        raise bad(f"experts of layer {layer} are not aligned", stride=stride)
    for name, part in layout.experts[layer].items():
        if part.offset + part.nbytes > stride:
            raise bad(
                f"{name} of layer {layer} reaches past its unit", end=part.offset + part.nbytes, stride=stride
            )
        yield TensorInfo(
            f"blk.{layer}.{name}",
            part.format,
            (count, *part.shape),
            stored.file,
            stored.offset + part.offset,
            count * part.nbytes,
            stride,
            part.interleaved,
        )


def _padded(nbytes: int) -> int:
    return -(-nbytes // PAGE_NBYTES) * PAGE_NBYTES
