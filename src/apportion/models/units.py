"""Units: what can be placed or moved as one, how large it is, and where a checkpoint has it; from headers.

A unit is an expert of a layer (gate, up and down together), the dense part of a layer, the embedding, or the
head. It streams where its bytes in memory are those in the file: each of its matrices is then a member of a
stretch that one read brings. What a recipe has to rearrange, or what is decoded while loading, must stay in
memory, or be packed first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from apportion.core.spacing import spaced
from apportion.formats.block import BlockFormat
from apportion.formats.blocks import load_as
from apportion.formats.checkpoint import TensorInfo
from apportion.memory.reader import BLOCK_NBYTES, room_in_a_row
from apportion.models.config import ModelConfig
from apportion.models.footprint import loaded_nbytes
from apportion.models.layout import Slot, is_expert_matrix, layer_of
from apportion.models.recipes import Each, Recipe, Run, Stack, Whole, item_nbytes
from apportion.models.resolve import resolve

Tensors = Mapping[str, TensorInfo]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of one of the checkpoint's files."""

    file: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Member:
    """A matrix of a unit: `start` bytes into the unit's stretch number `stretch`.

    Attributes:
        name: canonical, without its layer: `attn_q.weight`.
        shape: [rows, cols], or [n, rows, cols] for a stack.
        interleaved: whether the file has its rows in panels of 16 already.
    """

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    stretch: int
    start: int = 0
    interleaved: bool = False

    @property
    def nbytes(self) -> int:
        return self.format.row_nbytes(prod(self.shape))


@dataclass(frozen=True, slots=True)
class Unit:
    """What one read brings."""

    stretches: tuple[Stretch, ...]
    members: tuple[Member, ...]

    @property
    def nbytes(self) -> int:
        return sum(stretch.nbytes for stretch in self.stretches)

    @property
    def slot_nbytes(self) -> int:
        """Room in an arena: whole blocks of every stretch."""
        return room_in_a_row((stretch.offset, stretch.nbytes) for stretch in self.stretches)


@dataclass(frozen=True, slots=True)
class LayerUnits:
    """A layer's dense part and its experts.

    Attributes:
        dense_nbytes: in memory, of matrices; the vectors of all layers are counted in `ModelUnits`.
        dense: None where it cannot stream.
        experts: of each expert, in order; empty where the layer has none, or where they cannot stream.
        num_experts, expert_nbytes: in memory, also where they cannot stream.
        slot_nbytes: room for any expert of the layer in an arena.
    """

    layer: int
    dense_nbytes: int
    dense: Unit | None
    num_experts: int
    expert_nbytes: int
    experts: tuple[Unit, ...]
    slot_nbytes: int

    @property
    def dense_slot_nbytes(self) -> int:
        """Room for the dense part in an arena; 0 where it cannot stream."""
        return self.dense.slot_nbytes if self.dense is not None else 0


@dataclass(frozen=True, slots=True)
class ModelUnits:
    """All units of a model, and the bytes of what is none: vectors.

    Attributes:
        head_nbytes: 0 where the embedding is the head.
        embedding, head: None where they cannot stream; `head` also where the embedding is the head. An
            embedding that is looked up streams by rows: it cannot where its rows lie in panels.
        why_not: what keeps units from streaming, one line for each cause.
    """

    embedding_nbytes: int
    embedding: Unit | None
    head_nbytes: int
    head: Unit | None
    vectors_nbytes: int
    layers: tuple[LayerUnits, ...]
    why_not: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of the whole model in memory."""
        layers = sum(layer.dense_nbytes + layer.num_experts * layer.expert_nbytes for layer in self.layers)
        return self.embedding_nbytes + self.head_nbytes + self.vectors_nbytes + layers


def model_units(config: ModelConfig, tensors: Tensors) -> ModelUnits:
    """The units of a model.

    Raises:
        BadFile: the tensors are not those of this configuration.
    """
    recipes = resolve(config, tensors).recipes
    sizes = {slot: spaced(loaded_nbytes(slot, recipe, tensors)) for slot, recipe in recipes.items()}
    by_name = {slot.name: slot for slot in recipes}
    survey = _Survey(tensors, recipes)
    embedding = by_name["token_embd.weight"]
    head = by_name.get("output.weight")
    layers = tuple(_layer(survey, layer, sizes) for layer in range(config.num_layers))
    return ModelUnits(
        embedding_nbytes=sizes[embedding],
        embedding=None if head is not None and survey.in_panels(embedding) else survey.unit([embedding]),
        head_nbytes=0 if head is None else sizes[head],
        head=None if head is None else survey.unit([head]),
        vectors_nbytes=sum(nbytes for slot, nbytes in sizes.items() if slot.kind == "vector"),
        layers=layers,
        why_not=tuple(survey.why_not),
    )


def _layer(survey: _Survey, layer: int, sizes: Mapping[Slot, int]) -> LayerUnits:
    prefix = f"blk.{layer}."
    matrices = [slot for slot in sizes if slot.kind == "matrix" and slot.name.startswith(prefix)]
    experts = [slot for slot in matrices if is_expert_matrix(slot.name)]
    dense = [slot for slot in matrices if not is_expert_matrix(slot.name)]
    count = experts[0].shape[0] if experts else 0
    units = survey.experts(experts, count)
    return LayerUnits(
        layer=layer,
        dense_nbytes=sum(sizes[slot] for slot in dense),
        dense=survey.unit(dense),
        num_experts=count,
        expert_nbytes=sum(sizes[slot] for slot in experts) // count if count else 0,
        experts=units,
        slot_nbytes=max((unit.slot_nbytes for unit in units), default=0),
    )


class _Survey:
    """Where matrices lie, and why some cannot be read as they lie."""

    def __init__(self, tensors: Tensors, recipes: Mapping[Slot, Recipe]) -> None:
        self._tensors = tensors
        self._recipes = recipes
        self.why_not: dict[str, None] = {}  # in the order of discovery

    def unit(self, slots: Sequence[Slot]) -> Unit | None:
        """The matrices as one unit; None where one cannot be read as it lies."""
        formats = [self._kept_as_stored(slot) for slot in slots]
        stretches = [self._stretch(slot, None) for slot in slots]
        return _unit_of(slots, [slot.shape for slot in slots], formats, stretches, self.in_panels)

    def experts(self, slots: Sequence[Slot], count: int) -> tuple[Unit, ...]:
        """One unit for each expert; none where one cannot be read as it lies."""
        formats = [self._kept_as_stored(slot) for slot in slots]
        shapes = [slot.shape[1:] for slot in slots]
        units: list[Unit] = []
        for expert in range(count):
            stretches = [self._stretch(slot, expert) for slot in slots]
            unit = _unit_of(slots, shapes, formats, stretches, self.in_panels)
            if unit is None:
                return ()
            units.append(unit)
        return tuple(units)

    def _kept_as_stored(self, slot: Slot) -> BlockFormat | None:
        stored = self._recipes[slot].format(self._tensors)
        kept = load_as(stored).kept
        if kept is stored:
            return kept
        self.why_not[f"{stored.name} is kept in memory as {kept.name}"] = None
        return None

    def in_panels(self, slot: Slot) -> bool:
        return any(self._tensors[name].interleaved for name in self._recipes[slot].sources)

    def _stretch(self, slot: Slot, index: int | None) -> Stretch | None:
        stretch = _stretch(self._recipes[slot], self._tensors, index)
        if stretch is None:
            self.why_not["some matrices are stored in another order than they are used in"] = None
        return stretch


def _unit_of(
    slots: Sequence[Slot],
    shapes: Sequence[tuple[int, ...]],
    formats: Sequence[BlockFormat | None],
    found: Sequence[Stretch | None],
    in_panels: Callable[[Slot], bool],
) -> Unit | None:
    """Matrices as one unit, in file order; those that touch, but for some padding, are one stretch."""
    stretches: list[Stretch] = []
    members = []
    for slot, shape, kept, stretch in sorted(zip(slots, shapes, formats, found, strict=True), key=_order):
        if stretch is None or kept is None:
            return None
        last = stretches[-1] if stretches else None
        if last is not None and _touch(last, stretch):
            stretches[-1] = Stretch(last.file, last.offset, stretch.offset + stretch.nbytes - last.offset)
        else:
            stretches.append(stretch)
        start = stretch.offset - stretches[-1].offset
        name, panels = layer_of(slot.name)[1], in_panels(slot)
        members.append(Member(name, kept, shape, len(stretches) - 1, start, panels))
    return Unit(tuple(stretches), tuple(members))


def _touch(before: Stretch, after: Stretch) -> bool:
    """Whether what lies between two stretches is not worth a read of its own."""
    gap = after.offset - before.offset - before.nbytes
    return before.file == after.file and 0 <= gap < BLOCK_NBYTES


def _order(placed: tuple[Slot, tuple[int, ...], BlockFormat | None, Stretch | None]) -> tuple[int, int]:
    stretch = placed[3]
    return (0, 0) if stretch is None else (stretch.file, stretch.offset)


def _stretch(recipe: Recipe, tensors: Tensors, index: int | None) -> Stretch | None:
    """Where the bytes that a recipe yields lie in one piece: of the whole tensor, or of one entry of a stack.
    None where they lie apart or in another order.
    """
    match recipe:
        case Whole(name):
            return _part(tensors[name], 0 if index is None else index, 1, whole=index is None)
        case Run(name, start, stop, _) if index is None:
            return _part(tensors[name], start, stop - start)
        case Each(name, start, stop, total) if index is not None:
            info = tensors[name]
            row_nbytes = item_nbytes(info) // total
            offset = info.offset + index * item_nbytes(info) + start * row_nbytes
            return Stretch(info.file, offset, (stop - start) * row_nbytes)
        case Stack(pieces) if index is not None:
            return _stretch(pieces[index], tensors, None)
    return None


def _part(info: TensorInfo, first: int, count: int, whole: bool = False) -> Stretch | None:
    if whole:
        return None if info.stride else Stretch(info.file, info.offset, info.nbytes)
    each = item_nbytes(info)
    return Stretch(info.file, info.offset + first * (info.stride or each), count * each)
