"""What a packed file consists of, decided from headers alone: sections in file order, each a tensor of the
file's table.

The digests come first, then a folder's small files, all vectors, the embedding, the head, and then, layer by
layer, the matrices of the dense part and the experts, so that either is one stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import lcm, prod

from apportion.formats.block import BlockFormat
from apportion.formats.blocks import Load, format_by_name, load_as
from apportion.formats.checkpoint import Checkpoint, TensorInfo
from apportion.formats.packed import EXPERTS, PAGE_NBYTES, Keys, PackedLayout, Part
from apportion.formats.panels import PANEL_ROWS, has_panels
from apportion.formats.streaming import DIGEST_NBYTES
from apportion.models.config import ModelConfig
from apportion.models.layout import Slot
from apportion.models.loading import looked_up_only
from apportion.models.recipes import Recipe
from apportion.models.resolve import Resolution, resolve

BYTES = format_by_name("i8")
F32 = format_by_name("f32")
PART_ALIGNMENT = 64  # within an expert: a cache line


@dataclass(frozen=True, slots=True)
class Section:
    """One tensor of the file. It is written, and digested, as `num_units` units of the same size."""

    name: str
    format: BlockFormat
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file, padding after it included."""
        return padded(self.format.row_nbytes(prod(self.shape)), PAGE_NBYTES)

    @property
    def num_units(self) -> int:
        return 1


@dataclass(frozen=True, slots=True)
class Table(Section):
    """The digests of the header and of all units; what is written last."""

    @property
    def num_units(self) -> int:
        return 0


@dataclass(frozen=True, slots=True)
class SideFile(Section):
    """A small file that the model of safetensors has beside it."""

    file: str


@dataclass(frozen=True, slots=True)
class Vector(Section):
    """A vector as float32."""

    recipe: Recipe


@dataclass(frozen=True, slots=True)
class Matrix(Section):
    """A matrix, or a stack of matrices, in the format that it is computed on in.

    Attributes:
        recipe, load: how it is made from what is stored.
        interleaved: whether its rows are to lie in panels.
        grain: entries along the first dimension that are made together at least.
        scratch_nbytes: what making a grain takes beside its bytes as stored and as kept.
    """

    recipe: Recipe
    load: Load
    interleaved: bool
    grain: int
    scratch_nbytes: int

    @property
    def entry_nbytes(self) -> int:
        """Bytes of one entry along the first dimension, as kept."""
        return self.load.kept.row_nbytes(prod(self.shape[1:]))

    @property
    def stored_entry_nbytes(self) -> int:
        """The same as stored."""
        return self.load.stored.row_nbytes(prod(self.shape[1:]))

    @property
    def recodes(self) -> bool:
        return self.load.kept is not self.load.stored


@dataclass(frozen=True, slots=True)
class Experts(Section):
    """The experts of a layer: a unit each, with its matrices at the places that `parts` say."""

    layer: int
    stacks: tuple[Matrix, ...]
    parts: Mapping[str, Part]

    @property
    def num_units(self) -> int:
        return self.shape[0]


@dataclass(frozen=True, slots=True)
class Sections:
    """The whole file behind its header.

    Attributes:
        notes: what of the source is not in it, and what is stored in another format.
    """

    all: tuple[Section, ...]
    layout: PackedLayout
    notes: tuple[str, ...]

    @property
    def matrices(self) -> list[Matrix]:
        """Every matrix and stack, those of experts too."""
        stacks = [stack for section in self.all if isinstance(section, Experts) for stack in section.stacks]
        return [section for section in self.all if isinstance(section, Matrix)] + stacks


def sections_of(config: ModelConfig, checkpoint: Checkpoint, files: Mapping[str, int]) -> Sections:
    """Lay out a packed file.

    Args:
        files: the small files to carry, and their sizes.

    Raises:
        BadFile: the checkpoint's tensors are not those of its configuration.
    """
    resolution = resolve(config, checkpoint.tensors)
    # What has no sources is made from the configuration again.
    recipes = {slot: recipe for slot, recipe in resolution.recipes.items() if recipe.sources}
    looked_up = looked_up_only(recipes)
    vectors = [
        Vector(slot.name, F32, slot.shape, recipe)
        for slot, recipe in recipes.items()
        if slot.kind == "vector"
    ]
    matrices = {
        slot.name: _matrix(slot, recipe, checkpoint.tensors, slot.name != looked_up)
        for slot, recipe in recipes.items()
        if slot.kind == "matrix"
    }
    small = [SideFile(Keys.FILE + name, BYTES, (nbytes,), name) for name, nbytes in files.items()]
    found = [*small, *vectors, *_in_order(config, matrices)]
    num_digests = 1 + sum(section.num_units for section in found)
    table = Table(Keys.DIGESTS, BYTES, (num_digests, DIGEST_NBYTES))
    return Sections((table, *found), _layout(found), _notes(resolution, matrices.values()))


def _in_order(config: ModelConfig, matrices: Mapping[str, Matrix]) -> Iterator[Section]:
    yield from (matrix for name, matrix in matrices.items() if not name.startswith("blk."))
    for layer in range(config.num_layers):
        prefix = f"blk.{layer}."
        own = [matrix for name, matrix in matrices.items() if name.startswith(prefix)]
        stacks = [matrix for matrix in own if matrix.name.removeprefix(prefix) in EXPERTS]
        yield from (matrix for matrix in own if matrix not in stacks)
        if stacks:
            yield _experts(layer, stacks)


def _matrix(slot: Slot, recipe: Recipe, tensors: Mapping[str, TensorInfo], multiplied: bool) -> Matrix:
    load = load_as(recipe.format(tensors))
    interleaved = multiplied and has_panels(load.kept, slot.shape[-2])
    grain = recipe.grain(tensors)
    if interleaved and len(slot.shape) == 2:
        grain = lcm(grain, PANEL_ROWS)
    scratch = recipe.scratch_nbytes(tensors)
    return Matrix(slot.name, load.kept, slot.shape, recipe, load, interleaved, grain, scratch)


def _experts(layer: int, stacks: Sequence[Matrix]) -> Experts:
    parts: dict[str, Part] = {}
    end = 0
    for stack in stacks:
        count, rows, cols = stack.shape
        name = stack.name.removeprefix(f"blk.{layer}.")
        parts[name] = Part(padded(end, PART_ALIGNMENT), stack.format, (rows, cols), stack.interleaved)
        end = parts[name].offset + parts[name].nbytes
    shape = (count, padded(end, PAGE_NBYTES))
    return Experts(Keys.experts(layer), BYTES, shape, layer, tuple(stacks), parts)


def _layout(found: Sequence[Section]) -> PackedLayout:
    interleaved = (s.name for s in found if isinstance(s, Matrix) and s.interleaved)
    experts = {section.layer: section.parts for section in found if isinstance(section, Experts)}
    return PackedLayout(tuple(interleaved), experts)


def _notes(resolution: Resolution, matrices: Iterable[Matrix]) -> tuple[str, ...]:
    recoded = dict.fromkeys(matrix.load.note for matrix in matrices if matrix.recodes)
    return (*resolution.notes, *recoded)


def padded(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment
