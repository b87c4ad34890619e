"""Arrangements: what stays in memory, what streams, and the bytes of both. The budget's arithmetic is here.

ram = runtime + dense weights kept + expert slots + KV + workspace + I/O buffers + reserve
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from apportion.core.claim import Kind
from apportion.core.keys import dense_key
from apportion.core.units import MiB
from apportion.models.config import ModelConfig
from apportion.models.footprint import kv_nbytes
from apportion.models.units import LayerUnits, ModelUnits
from apportion.plan.plan import MIN_SLOTS, STREAM_BUFFERS, Embedding, Plan, PrefillOrder
from apportion.policies.placement import PlacedUnit, Placement

TOKENS_PER_PASS = 512  # beyond it products gain little
RESERVE_NBYTES = 16 * MiB  # what allocators and the interpreter round up
PAGE_NBYTES = 4096
ROWS_NBYTES = MiB  # rows of the embedding come in turns through this much

Workspace: TypeAlias = Callable[[int], int]


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One way to divide memory; the fields are those of `Plan`.

    Args:
        loaded_nbytes: of weights that loading reads.
        resident_nbytes: of weights that are in memory once slots are filled.
    """

    ctx: int
    kv: str
    tokens_per_pass: int
    prefill: PrefillOrder
    embedding: Embedding
    expert_slots: tuple[int, ...]
    streamed_layers: tuple[int, ...]
    stream_buffers: int
    nbytes: Mapping[Kind, int]
    loaded_nbytes: int
    resident_nbytes: int

    @property
    def total_nbytes(self) -> int:
        return sum(self.nbytes.values())


@dataclass(frozen=True)
class Arranger:
    """Divides budgets for one model.

    Args:
        runtime_nbytes: what the process has before it loads anything.
        concurrency: sequences that have KV at once.
        workspace: bytes that passes need, by how many tokens are under way at once.
        placement: chooses the layers whose dense parts stay.
        prefill: the order where weights stream; where none do, it makes no difference.
    """

    config: ModelConfig
    units: ModelUnits
    runtime_nbytes: int
    kv: str
    concurrency: int
    workspace: Workspace
    placement: Placement
    reserve_nbytes: int = RESERVE_NBYTES
    tokens_per_pass: int = TOKENS_PER_PASS
    prefill: PrefillOrder = "layer_major"

    def arrange(self, ram: int, ctx: int) -> Arrangement | None:
        """The best division of `ram` bytes: everything resident, else as many slots as there is room for, or
        else as many dense parts. None where not even the smallest fits.
        """
        whole = self.resident(ctx)
        if whole.total_nbytes <= ram:
            return whole
        for embedding in self._embeddings:
            least = self._arrangement(ctx, embedding, self._least_slots, ())
            if least.total_nbytes <= ram:
                slots = self._filled(least.expert_slots, ram - least.total_nbytes)
                return self._arrangement(ctx, embedding, slots, ())
        least = self._least_streamed(ctx)
        return self._kept(least, ram) if least.total_nbytes <= ram else None

    def chosen(self, plan: Plan) -> Arrangement:
        """The division that a plan's choices make; its bytes are reckoned anew."""
        return self._arrangement(
            plan.ctx,
            plan.embedding,
            plan.expert_slots,
            plan.streamed_layers,
            prefill=plan.prefill,
            buffers=plan.stream_buffers,
        )

    def resident(self, ctx: int) -> Arrangement:
        """Everything in memory."""
        everything = tuple(layer.num_experts for layer in self.units.layers)
        return self._arrangement(ctx, "resident", everything, ())

    def least_nbytes(self, ctx: int) -> int:
        """The smallest budget that does for a context of `ctx` positions."""
        streaming = [
            self._arrangement(ctx, embedding, self._least_slots, ()) for embedding in self._embeddings
        ]
        ways = (self.resident(ctx), *streaming, self._least_streamed(ctx))
        return min(way.total_nbytes for way in ways)

    def kv_nbytes(self, ctx: int) -> int:
        """Bytes of KV of all sequences, each with `ctx` positions."""
        return self.concurrency * kv_nbytes(self.config, self.kv, ctx)

    @cached_property
    def _embeddings(self) -> tuple[Embedding, ...]:
        """What can become of the embedding, the better first; as the head it is needed whole."""
        units = self.units
        is_head = not units.head_nbytes
        by_row = units.embedding is not None and not is_head and self._rows_nbytes < units.embedding_nbytes
        return ("resident", "rows") if by_row else ("resident",)

    @cached_property
    def _least_slots(self) -> tuple[int, ...]:
        return tuple(
            min(MIN_SLOTS, layer.num_experts) if layer.experts else layer.num_experts
            for layer in self.units.layers
        )

    @cached_property
    def _streamable(self) -> tuple[LayerUnits, ...]:
        return tuple(layer for layer in self.units.layers if layer.dense is not None)

    def _least_streamed(self, ctx: int) -> Arrangement:
        """Everything that can stream streams."""
        streamed = tuple(layer.layer for layer in self._streamable)
        return self._arrangement(ctx, self._embeddings[-1], self._least_slots, streamed)

    def _filled(self, slots: Sequence[int], free: int) -> tuple[int, ...]:
        """`slots` and as many more as fit into `free` bytes: as even as can be, what is left to the first
        layers.
        """
        filled = list(slots)
        open_layers = [layer for layer in self.units.layers if layer.experts]
        while True:
            open_layers = [layer for layer in open_layers if filled[layer.layer] < layer.num_experts]
            round_nbytes = sum(layer.slot_nbytes for layer in open_layers)
            rounds = free // round_nbytes if open_layers else 0
            if not rounds:
                break
            rounds = min(rounds, *(layer.num_experts - filled[layer.layer] for layer in open_layers))
            for layer in open_layers:
                filled[layer.layer] += rounds
            free -= rounds * round_nbytes
        for layer in open_layers:
            if layer.slot_nbytes <= free:
                filled[layer.layer] += 1
                free -= layer.slot_nbytes
        return tuple(filled)

    def _kept(self, least: Arrangement, ram: int) -> Arrangement:
        """`least` with as many dense parts kept as fit into `ram` beside the buffers for the others."""
        parts = [PlacedUnit(dense_key(layer.layer), layer.dense_nbytes) for layer in self._streamable]
        kept = set(self.placement.choose(parts, ram - least.total_nbytes))
        streamed = tuple(layer for layer in least.streamed_layers if dense_key(layer) not in kept)
        return self._arrangement(least.ctx, least.embedding, least.expert_slots, streamed)

    def _arrangement(
        self,
        ctx: int,
        embedding: Embedding,
        slots: tuple[int, ...],
        streamed: tuple[int, ...],
        prefill: PrefillOrder | None = None,
        buffers: int = STREAM_BUFFERS,
    ) -> Arrangement:
        layers = self.units.layers
        streams = bool(streamed) or not all(_is_whole(slots, layer) for layer in layers)
        dense = self._dense_nbytes(embedding, frozenset(streamed))
        whole = sum(layer.num_experts * layer.expert_nbytes for layer in layers if _is_whole(slots, layer))
        some = [layer for layer in layers if not _is_whole(slots, layer)]
        buffers = min(buffers, len(streamed))
        prefill = prefill or (self.prefill if streams else "chunked")
        at_once = ctx if prefill == "layer_major" else min(ctx, self.tokens_per_pass)
        return Arrangement(
            ctx=ctx,
            kv=self.kv,
            tokens_per_pass=self.tokens_per_pass,
            prefill=prefill,
            embedding=embedding,
            expert_slots=slots,
            streamed_layers=streamed,
            stream_buffers=buffers,
            nbytes={
                Kind.RUNTIME: self.runtime_nbytes,
                Kind.DENSE_WEIGHTS: dense,
                Kind.EXPERT_SLOTS: whole + sum(slots[layer.layer] * layer.slot_nbytes for layer in some),
                Kind.KV: self.kv_nbytes(ctx),
                Kind.WORKSPACE: self.workspace(at_once) + self._read_nbytes(embedding, at_once),
                Kind.IO_BUFFERS: self._buffers_nbytes(embedding, streamed, buffers),
                Kind.RESERVE: self.reserve_nbytes,
            },
            loaded_nbytes=dense + whole,
            resident_nbytes=dense + whole + sum(slots[layer.layer] * layer.expert_nbytes for layer in some),
        )

    def _dense_nbytes(self, embedding: Embedding, streamed: Collection[int]) -> int:
        units = self.units
        kept = sum(layer.dense_nbytes for layer in units.layers if layer.layer not in streamed)
        whole = units.embedding_nbytes if embedding == "resident" else 0
        return units.head_nbytes + units.vectors_nbytes + whole + kept

    def _buffers_nbytes(self, embedding: Embedding, streamed: Sequence[int], buffers: int) -> int:
        """Room for the largest dense part that streams, in each buffer; and for rows of the embedding."""
        largest = max((self.units.layers[layer].dense_slot_nbytes for layer in streamed), default=0)
        return buffers * largest + (self._rows_nbytes if embedding == "rows" else 0)

    def _read_nbytes(self, embedding: Embedding, tokens: int) -> int:
        """Hidden states as they were read, beside those that passes change."""
        return 4 * self.config.hidden_size * tokens if embedding == "rows" else 0

    @cached_property
    def _rows_nbytes(self) -> int:
        """Room for rows of the embedding, each in the pages that it lies in."""
        row_nbytes = self.units.embedding_nbytes // self.config.vocab_size
        pages = 1 + -(-row_nbytes // PAGE_NBYTES)
        return max(ROWS_NBYTES, pages * PAGE_NBYTES)


def _is_whole(slots: Sequence[int], layer: LayerUnits) -> bool:
    """Whether all of a layer's experts have room: they are loaded with the model, and need no slots."""
    return slots[layer.layer] == layer.num_experts
