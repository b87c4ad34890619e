"""Recipes: how a canonical tensor is made from what a checkpoint stores.

A recipe knows from headers alone which format and shape it yields, and then fills memory that the caller
owns. Pieces are read straight to their places; what has to be rearranged passes through a piece-sized
temporary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

import numpy as np

from apportion.core.errors import BadFile
from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.blocks import format_by_name
from apportion.formats.checkpoint import Checkpoint, TensorInfo

Tensors = Mapping[str, TensorInfo]
NO_SHAPE = (0,)  # what stored tensors yield that do not fit a recipe
CHUNK_NBYTES = 32 << 20  # a large tensor is read in pieces of this size, so that progress shows


class Reader:
    """Reads parts of a checkpoint's tensors and counts bytes."""

    def __init__(self, checkpoint: Checkpoint, on_bytes: Callable[[int], None] | None = None) -> None:
        self._checkpoint = checkpoint
        self._on_bytes = on_bytes
        self.tensors = checkpoint.tensors

    def read(self, name: str, out: Bytes, start: int = 0) -> None:
        """Fill `out` [n] uint8 with the tensor's bytes from `start` on."""
        info = self.tensors[name]
        for first in range(0, out.size, CHUNK_NBYTES):
            piece = out[first : first + CHUNK_NBYTES]
            self._checkpoint.read(info, piece, start + first)
            if self._on_bytes is not None:
                self._on_bytes(piece.size)


class Recipe(Protocol):
    """One way to make a canonical tensor."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The stored tensors that it reads."""

    def format(self, tensors: Tensors) -> BlockFormat:
        """The format that it yields."""

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        """The shape that it yields; NO_SHAPE or a ValueError where the stored tensors do not fit it."""

    def grain(self, tensors: Tensors) -> int:
        """How many entries along the first dimension are made together."""

    def scratch_nbytes(self, tensors: Tensors) -> int:
        """The most that `fill` takes beside `out` for one grain."""

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        """Write bytes of the tensor to `out`, flat: as many entries along the first dimension as it holds,
        from entry `first` on. Both are multiples of the grain.
        """


class Plain:
    """What recipes that read straight to `out`, entry by entry, share."""

    __slots__ = ()

    def grain(self, tensors: Tensors) -> int:
        return 1

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class FromOne(Plain):
    """What recipes that copy out of one stored tensor, in its own format, share."""

    name: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.name,)

    def format(self, tensors: Tensors) -> BlockFormat:
        return tensors[self.name].format


@dataclass(frozen=True, slots=True)
class Whole(FromOne):
    """A stored tensor as it is."""

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        return tensors[self.name].shape

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        reader.read(self.name, out, first * item_nbytes(reader.tensors[self.name]) if first else 0)


@dataclass(frozen=True, slots=True)
class Run(FromOne):
    """Of a stored tensor with `total` rows (or numbers, if it is a vector), those from start to stop - 1."""

    start: int
    stop: int
    total: int

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        rows, *rest = tensors[self.name].shape
        return (self.stop - self.start, *rest) if rows == self.total else NO_SHAPE

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        reader.read(self.name, out, (self.start + first) * item_nbytes(reader.tensors[self.name]))


@dataclass(frozen=True, slots=True)
class Each(FromOne):
    """Of a stored stack [E, total, K], the rows from start to stop - 1 of every matrix."""

    start: int
    stop: int
    total: int

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        count, rows, *rest = tensors[self.name].shape
        return (count, self.stop - self.start, *rest) if rows == self.total else NO_SHAPE

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        matrix_nbytes = item_nbytes(reader.tensors[self.name])
        row_nbytes = matrix_nbytes // self.total
        for index, piece in enumerate(out.reshape(-1, (self.stop - self.start) * row_nbytes), first):
            reader.read(self.name, piece, index * matrix_nbytes + self.start * row_nbytes)


@dataclass(frozen=True, slots=True)
class Stack(Plain):
    """Pieces of one shape and format, one after the other along a new first dimension."""

    pieces: tuple[Recipe, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for piece in self.pieces for name in piece.sources))

    def format(self, tensors: Tensors) -> BlockFormat:
        formats = {piece.format(tensors).name: piece.format(tensors) for piece in self.pieces}
        if len(formats) > 1:
            raise BadFile(
                "matrices that belong together are stored in different formats",
                f"{self.sources[0]} and its like are {' and '.join(formats)}",
                "quantize the model anew",
            )
        return next(iter(formats.values()))

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        shapes = {piece.shape(tensors) for piece in self.pieces}
        return (len(self.pieces), *shapes.pop()) if len(shapes) == 1 else NO_SHAPE

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return self.pieces[0].scratch_nbytes(tensors)

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        piece = self.pieces[first]  # they are all alike
        nbytes = piece.format(reader.tensors).row_nbytes(prod(piece.shape(reader.tensors)))
        for index, place in enumerate(out.reshape(-1, nbytes), first):
            self.pieces[index].fill(reader, place)


@dataclass(frozen=True, slots=True)
class Interleaved:
    """Rows of query or key heads, reordered so that the rotary pairs i and i + dims/2 lie side by side:
    GGUF's order for Llama and its kin.
    """

    piece: Recipe
    num_heads: int
    dims: int

    @property
    def sources(self) -> tuple[str, ...]:
        return self.piece.sources

    def format(self, tensors: Tensors) -> BlockFormat:
        return self.piece.format(tensors)

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        shape = self.piece.shape(tensors)
        return shape if shape[0] % self.num_heads == 0 else NO_SHAPE

    def grain(self, tensors: Tensors) -> int:
        return self.shape(tensors)[0] // self.num_heads

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 2 * self.grain(tensors) * entry_nbytes(self, tensors)

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        self.piece.fill(reader, out, first)
        rows = self.grain(reader.tensors)
        for head in out.reshape(-1, rows, entry_nbytes(self, reader.tensors)):
            rotated = head[: self.dims]
            half = self.dims // 2
            rotated[:] = np.stack([rotated[:half], rotated[half:]], axis=1).reshape(rotated.shape)


@dataclass(frozen=True, slots=True)
class PlusOne:
    """A vector plus one: Gemma stores its norms' distance from one."""

    name: str

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.name,)

    def format(self, tensors: Tensors) -> BlockFormat:
        return format_by_name("f32")

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        return tensors[self.name].shape

    def grain(self, tensors: Tensors) -> int:
        return self.shape(tensors)[0]

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 12 * tensors[self.name].num_elements

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        info = reader.tensors[self.name]
        stored = np.empty(info.nbytes, dtype=np.uint8)
        reader.read(self.name, stored)
        out[:] = (info.format.dequantize(stored) + np.float32(1)).view(np.uint8)


@dataclass(frozen=True, slots=True)
class Columns(FromOne):
    """Of a stored stack [E, K, N], every `step`-th column from `start` on, as rows: [E, N / step, K].

    Of a stored stack of vectors [E, N], the same columns: [E, N / step]. Formats of single numbers only.
    """

    start: int = 0
    step: int = 1

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        count, *middle, columns = tensors[self.name].shape
        if tensors[self.name].format.block_size != 1:
            return NO_SHAPE
        return (count, columns // self.step, *middle)

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 2 * item_nbytes(tensors[self.name])

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        info = reader.tensors[self.name]
        width = info.format.block_nbytes
        stored = np.empty(item_nbytes(info), dtype=np.uint8)
        for index, place in enumerate(out.reshape(-1, entry_nbytes(self, reader.tensors)), first):
            reader.read(self.name, stored, index * stored.size)
            matrix = stored.reshape(-1, info.shape[-1], width)[:, self.start :: self.step]
            place[:] = matrix.transpose(1, 0, 2).reshape(-1)


@dataclass(frozen=True, slots=True)
class HeadTransposed(Plain):
    """Of a joint projection [A * (nope + value), rank], each head's first `nope` rows, transposed: [A, rank,
    nope].

    Blocks cannot be transposed, so a block format is decoded to float32.
    """

    name: str
    num_heads: int
    nope_dim: int
    value_dim: int

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.name,)

    def format(self, tensors: Tensors) -> BlockFormat:
        stored = tensors[self.name].format
        return stored if stored.block_size == 1 else format_by_name("f32")

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        rows, rank = tensors[self.name].shape
        fits = rows == self.num_heads * (self.nope_dim + self.value_dim)
        return (self.num_heads, rank, self.nope_dim) if fits else NO_SHAPE

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 3 * 4 * self.nope_dim * tensors[self.name].shape[1]

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        info = reader.tensors[self.name]
        row_nbytes = item_nbytes(info)
        stored = np.empty((self.nope_dim, row_nbytes), dtype=np.uint8)
        for head, place in enumerate(out.reshape(-1, entry_nbytes(self, reader.tensors)), first):
            reader.read(self.name, stored.reshape(-1), head * (self.nope_dim + self.value_dim) * row_nbytes)
            decoded = stored if info.format.block_size == 1 else info.format.dequantize(stored).view(np.uint8)
            numbers = decoded.reshape(self.nope_dim, info.shape[1], -1)
            place[:] = numbers.transpose(1, 0, 2).reshape(-1)


@dataclass(frozen=True, slots=True)
class Constant:
    """Numbers that the configuration states and GGUF keeps as a tensor."""

    values: tuple[float, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        return ()

    def format(self, tensors: Tensors) -> BlockFormat:
        return format_by_name("f32")

    def shape(self, tensors: Tensors) -> tuple[int, ...]:
        return (len(self.values),)

    def grain(self, tensors: Tensors) -> int:
        return len(self.values)

    def scratch_nbytes(self, tensors: Tensors) -> int:
        return 0

    def fill(self, reader: Reader, out: Bytes, first: int = 0) -> None:
        out[:] = np.asarray(self.values, dtype=np.float32).view(np.uint8)


def item_nbytes(info: TensorInfo) -> int:
    """Bytes of one entry along the first dimension."""
    if info.nbytes % info.shape[0]:
        raise BadFile(f"{info.name} cannot be taken apart", f"its {info.format.name} blocks span rows")
    return info.nbytes // info.shape[0]


def entry_nbytes(recipe: Recipe, tensors: Tensors) -> int:
    """Bytes of one entry along the first dimension of what a recipe yields."""
    return recipe.format(tensors).row_nbytes(prod(recipe.shape(tensors)[1:]))


def value_heads(name: str, num_heads: int, nope_dim: int, value_dim: int) -> Stack:
    """Of a joint projection [A * (nope + value), rank], each head's last `value` rows: [A, value, rank]."""
    each = nope_dim + value_dim
    total = num_heads * each
    return Stack(tuple(Run(name, h * each + nope_dim, (h + 1) * each, total) for h in range(num_heads)))
