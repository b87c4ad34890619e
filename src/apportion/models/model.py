"""A loaded model, and how its callers run it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Literal, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from apportion import _native
from apportion.core.errors import ContextOverflow, Unsupported, UsageError
from apportion.formats.block import Floats
from apportion.kernels.eager import EagerProgram, RouteObserver
from apportion.kernels.kv import Segment
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.kv_codecs import DEFAULT
from apportion.kernels.ops import Best, BestOf, ExpertWeights, Ints, Ops
from apportion.kernels.residency import Residency
from apportion.kernels.steps import Program, Want
from apportion.kernels.streamed import StreamedProgram
from apportion.models.bounding import Bounding
from apportion.models.cache import KvCache, kv_layouts
from apportion.models.config import ModelConfig
from apportion.models.forward import ForwardPass
from apportion.models.smoothing import Smoothing, smoothing_of
from apportion.models.weights import ModelWeights, MoeWeights

INT32 = np.dtype(np.int32)


class Model:
    """Weights, configuration, and the operations that run them.

    Attributes:
        notes: what loading found worth saying (tensors that were left out, formats that were decoded).
        residency: brings the weights that do not stay in memory; None where all of them do.
        finds_best: whether the largest logit costs less than all of them do.
        calibration: gives the tokens of a text, by which keys are smoothed and that benchmarks decode; set by
            who has a tokenizer.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        ops: Ops,
        notes: tuple[str, ...] = (),
        residency: Residency | None = None,
    ) -> None:
        self.config = config
        self.weights = weights
        self.ops = ops
        self.notes = notes
        self.residency = residency
        scaling = config.rope.scaling
        is_longrope = scaling.kind == "longrope"
        # Caches of more positions than this are for a program of their own.
        self._short_context = scaling.original_context if is_longrope else sys.maxsize
        self._passes = tuple(
            ForwardPass(config, weights, lambda layer: self.experts_of(layer), long_context)
            for long_context in ((False, True) if is_longrope else (False,))
        )
        self.calibration: Callable[[], Ints] | None = None
        self._smoothing: Smoothing | None = None
        self._programs: dict[bool, Program] = {}
        self._making = Lock()
        self._bounding = Bounding()
        self._all = BestOf(config.vocab_size)
        self.finds_best = weights.head.split and config.logit_scale == 1 and not config.logit_softcap

    def computed_by(self, ops: Ops) -> Model:
        """The same weights, computed by other operations."""
        model = Model(self.config, self.weights, ops, self.notes, self.residency)
        model.calibration = self.calibration
        return model

    def new_cache(self, capacity: int, kv: str = DEFAULT) -> KvCache:
        """An empty KV cache for one sequence of at most `capacity` positions.

        Args:
            kv: its codec, or those of the layers, as in `f16*2,q4`.

        Raises:
            NotFound: there is no such codec.
            Unsupported: the codec smooths keys, and this model's cannot be.
            UsageError: the capacity is not positive, or the codecs do not fit the layers.

        A model with LongRoPE takes its long factors when the capacity passes the original context, so that
        one sequence is rotated alike from its first position to its last.
        """
        smooth = kv_layouts(self.config, kv).smooth
        return KvCache(self.config, capacity, kv, self.smoothing() if smooth else ())

    def smoothing(self) -> Smoothing:
        """The factors of each layer's keys, found when first asked for.

        Raises:
            Unsupported: values are a part of the keys, or there is no tokenizer for the text that they are
                found with.
            NotFinite: a key of the model is no number.
        """
        if self._smoothing is None:
            if self.calibration is None:
                raise Unsupported(
                    "keys cannot be smoothed", "the model has no tokenizer", "choose another KV codec, as q8"
                )
            self._smoothing = smoothing_of(self, self.calibration())
        return self._smoothing

    def forward(self, ids: ArrayLike, cache: KvCache, *, logits: Literal["last", "all"] = "last") -> Floats:
        """Append tokens [T] to the sequence in `cache` -> logits [1 or T, V] float32.

        Raises:
            ContextOverflow: the cache has no room; it is unchanged.
            UsageError: there are no tokens, or one lies outside of the vocabulary.
        """
        tokens = self._checked(ids)
        cache.require_room(len(tokens))
        out = self._program(cache.capacity).run(tokens, [cache.segment(len(tokens))], want=logits)
        cache.advance(len(tokens))
        return out

    def forward_best(self, ids: ArrayLike, cache: KvCache, limit: int | None = None) -> Best:
        """Append tokens [T] as `forward` does -> the largest logit of the last of them; those from `limit` on
        do not count: what a tokenizer does not have.

        Raises what `forward` raises.
        """
        tokens = self._checked(ids)
        cache.require_room(len(tokens))
        of = self._all if limit is None else BestOf(limit)
        best = self._best(tokens, [cache.segment(len(tokens))], of, context=cache.capacity)
        cache.advance(len(tokens))
        return best

    def run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment],
        first: int = 0,
        last: int | None = None,
        want: Want = "last",
        context: int = 0,
    ) -> Floats:
        """Tokens of several sequences through layers first..last-1 in one pass; shapes as in
        `kernels.steps.Program.run`.

        Args:
            source: tokens [T] or hidden states [T, H] of the segments, one after the other.
            context: how many positions the sequences may come to have. One with LongRoPE must be run with the
                same on all its way.

        Raises:
            ContextOverflow: a table has no room for its tokens; nothing was written.
            UsageError: there are no tokens, or one lies outside of the vocabulary.
            ValueError: batch and source contradict each other, or the tables are not of this model.
        """
        return self._program(context).run(self._entering(source, batch), batch, first, last, want)

    def run_best(
        self,
        source: Ints,
        batch: Sequence[Segment],
        of: BestOf,
        rows: Ints | None = None,
        context: int = 0,
    ) -> Best:
        """Tokens [T] of several sequences through all layers, as `run` -> the largest logit of some.

        Args:
            rows: their numbers, ascending; None: each segment's last.

        Raises what `run` raises.
        """
        return self._best(self._entering(source, batch), batch, of, rows, context=context)

    def _entering(self, source: Ints | Floats, batch: Sequence[Segment]) -> Ints | Floats:
        """Tokens or hidden states for which there is room, checked."""
        for segment in batch:
            if segment.start + segment.num_tokens > BLOCK_TOKENS * len(segment.table):
                raise ContextOverflow(
                    "the text is longer than the context",
                    "a sequence's blocks are full",
                    "give it more blocks first",
                    filled=segment.start,
                    wanted=segment.num_tokens,
                    capacity=BLOCK_TOKENS * len(segment.table),
                )
        return self._checked(source) if source.ndim == 1 else source

    def _best(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        of: BestOf,
        rows: Ints | None = None,
        first: int = 0,
        context: int = 0,
    ) -> Best:
        """By bounds, where they spare something, or among all logits."""
        num_rows = len(rows) if rows is not None else len(batch) if batch else 1
        by_bounds = self.finds_best and self._bounding.pays(num_rows)
        best = self._program(context).best(source, batch, of, rows, first, by_bounds)
        if by_bounds:
            self._bounding.took(best.share * num_rows)
        return best

    def forward_observed(self, ids: ArrayLike, cache: KvCache, observe: RouteObserver) -> None:
        """Append tokens [T] as `forward` does, and tell the routes of each layer. Where all weights stay in
        memory, operations are done one after the other; else only layers whose experts come and go tell.

        Raises what `forward` raises.
        """
        tokens = self._checked(ids)
        cache.require_room(len(tokens))
        program = self._program(cache.capacity)
        if isinstance(program, StreamedProgram):
            with program.observed_by(observe):
                program.run(tokens, [cache.segment(len(tokens))], want="hidden")
        else:
            forward = self._passes[-1 if self.is_long(cache.capacity) else 0]
            segment = cache.segment(len(tokens))
            EagerProgram(self.ops, forward, observe).run(tokens, [segment], want="hidden")
        cache.advance(len(tokens))

    def embed(self, ids: Ints) -> Floats:
        """Tokens [T] -> hidden states [T, H]."""
        return self._program().run(ids, None, 0, 0, "hidden")

    def run_layers(self, x: Floats, cache: KvCache, first: int = 0, last: int | None = None) -> Floats:
        """Hidden states [T, H] through layers first..last-1 -> [T, H].

        Writes keys and values at positions cache.length..; the caller counts them (`cache.advance`) when all
        layers have run.
        """
        cache.require_room(len(x))
        return self._program(cache.capacity).run(x, [cache.segment(len(x))], first, last, "hidden")

    def head(self, x: Floats) -> Floats:
        """Hidden states [T, H] -> logits [T, V]."""
        return self._program().run(x, None, self.config.num_layers, None, "all")

    @property
    def bytes_spared(self) -> int:
        """Of the head, what `best` reads of a few rows only: the lower parts of its codes."""
        head = self.weights.head
        return head.nbytes * _native.LOWER_NBYTES // head.format.block_nbytes if self.finds_best else 0

    def best(self, x: Floats, of: BestOf) -> Best:
        """Hidden states [T, H] after the last layer -> the largest logit of each, as `head` has it."""
        return self._best(x, None, of, np.arange(len(x), dtype=np.int32), self.config.num_layers)

    def norm(self, x: Floats) -> Floats:
        """Hidden states [T, H] after the last layer -> what the last norm makes of them, [T, H]."""
        return self.ops.rms_norm(x, self.weights.output_norm, self.config.norm_eps)

    def experts_of(self, layer: int) -> ExpertWeights:
        """The experts of a layer: the one place where the forward pass asks for them."""
        feed_forward = self.weights.layers[layer].feed_forward
        assert isinstance(feed_forward, MoeWeights)
        return feed_forward.experts

    def is_long(self, context: int) -> bool:
        """Whether a context of so many positions is beyond what LongRoPE's short factors are for."""
        return context > self._short_context

    def _program(self, capacity: int = 0) -> Program:
        """The forward pass for a cache of this capacity, made when first asked for."""
        is_long = self.is_long(capacity)
        program = self._programs.get(is_long)
        return self._make_program(is_long) if program is None else program

    def _make_program(self, is_long: bool) -> Program:
        with self._making:
            if is_long not in self._programs:
                self._programs[is_long] = self.ops.program(self._passes[is_long], self.residency)
            return self._programs[is_long]

    def _checked(self, ids: ArrayLike) -> Ints:
        if is_token(ids) and 0 <= ids.item() < self.config.vocab_size:
            return ids
        tokens = np.asarray(ids).reshape(-1)
        if not tokens.size:
            raise UsageError("there are no tokens to run", hint="give a prompt of at least one token")
        lowest, highest = int(tokens.min()), int(tokens.max())
        if lowest < 0 or highest >= self.config.vocab_size:
            raise UsageError(
                "a token lies outside of the vocabulary",
                vocab_size=self.config.vocab_size,
                lowest=lowest,
                highest=highest,
            )
        return np.ascontiguousarray(tokens, dtype=np.int32)


def is_token(ids: ArrayLike) -> TypeGuard[Ints]:
    """Whether this is the one token of a decode step, as it should be.

    A step drives NumPy's code out of the processor's caches; making sure by it would take 30 microseconds.
    """
    return isinstance(ids, np.ndarray) and ids.shape == (1,) and ids.dtype is INT32
