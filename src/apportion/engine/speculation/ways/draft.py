"""Guesses of a second, smaller model that speaks in the same tokens."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.errors import UsageError
from apportion.engine.speculation.length import AdaptiveLength, Costs
from apportion.engine.speculation.ways import Way
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.engine.loading import LoadedModel
    from apportion.models import Model
    from apportion.models.cache import KvCache
    from apportion.text.tokenizer import Tokenizer

MOST_POSITIONS = 4096  # of a sequence that is guessed at; a longer one goes on without
MOST_CACHES = 8  # sequences that are guessed at once; others go without
CHUNK_TOKENS = 512
NOTHING: Ints = np.empty(0, np.int32)


class DraftModel(Way):
    """Guesses with a smaller model, token by token, and checks with the large one.

    Source: Y. Leviathan et al., "Fast Inference from Transformers via Speculative Decoding",
    arXiv:2211.17192.
    """

    sentence = "Guesses with a smaller model of the same vocabulary, which is loaded beside the large one."
    argument = "MODEL"

    def beside_nbytes(self, argument: str, ctx: int | None, concurrency: int) -> int:
        """Weights, tokenizer, workspace and caches of the draft model, by its headers."""
        from apportion.engine.speculation.ways._draft_cost import draft_nbytes

        return draft_nbytes(argument, positions(ctx), min(concurrency, MOST_CACHES), CHUNK_TOKENS)

    def open(self, argument: str, target: LoadedModel, ctx: int, concurrency: int) -> Drafts:
        from apportion.engine.loading import load

        loaded = load(argument, target.model.ops)
        try:
            check_vocabularies(loaded, target)
            capacity = min(positions(ctx), loaded.model.config.context_length)
            return Drafts(loaded, capacity, min(concurrency, MOST_CACHES))
        except BaseException:
            loaded.close()
            raise


def positions(ctx: int | None) -> int:
    """Of a sequence that is guessed at; so many are paid for where the budget has yet to decide."""
    return min(ctx or MOST_POSITIONS, MOST_POSITIONS)


def check_vocabularies(draft: LoadedModel, target: LoadedModel) -> None:
    """Refuse a draft model whose tokens mean something else."""
    a, b = draft.tokenizer, target.tokenizer
    if a.vocab_size != b.vocab_size or differing_token(a, b) is not None:
        raise UsageError(
            f"{draft.name} cannot guess for {target.name}",
            "their vocabularies differ",
            "choose a smaller model of the same family",
            draft_vocab=a.vocab_size,
            vocab=b.vocab_size,
            first_difference=differing_token(a, b),
        )


def differing_token(a: Tokenizer, b: Tokenizer) -> int | None:
    """The first id that stands for two different tokens."""
    shared = range(min(a.vocab_size, b.vocab_size))
    return next((token for token in shared if a.token_text(token) != b.token_text(token)), None)


class Drafts:
    """A draft model for the requests of one engine.

    Args:
        capacity: positions of each of the caches, of which there are `num_caches`.
    """

    def __init__(self, loaded: LoadedModel, capacity: int, num_caches: int) -> None:
        self._loaded = loaded
        self._costs = Costs()
        self._capacity = capacity
        self._num_left = num_caches
        self._free: list[KvCache] = []

    @property
    def model(self) -> Model:
        return self._loaded.model

    @property
    def vocab_size(self) -> int:
        return self._loaded.tokenizer.vocab_size

    def drafter(self) -> ModelDrafter:
        return ModelDrafter(self, AdaptiveLength(self._costs))

    def take_cache(self) -> KvCache | None:
        """A cache that nobody uses; None where all are in use."""
        if self._free:
            return self._free.pop()
        if not self._num_left:
            return None
        self._num_left -= 1
        return self.model.new_cache(self._capacity)

    def give_back(self, cache: KvCache) -> None:
        cache.truncate(0)
        self._free.append(cache)

    def close(self) -> None:
        self._loaded.close()


class ModelDrafter:
    """One request's guesses. Its cache goes back when the request lets go of it."""

    def __init__(self, drafts: Drafts, length: AdaptiveLength) -> None:
        self._drafts = drafts
        self._length = length
        self._cache: KvCache | None = None
        self._known: list[int] = []  # what the cache holds
        self._own_s = 0.0
        self._asked = False

    def propose(self, ids: Ints, most: int) -> Ints:
        """What the draft model would say after `ids` [n], at most `most` tokens."""
        self._asked = True
        self._own_s = 0.0
        count = min(most, self._length.choose())
        cache = self._held() if count else None
        if cache is None:
            return NOTHING
        count = min(count, cache.capacity - len(ids))
        if count < 1:
            return NOTHING
        self._catch_up(ids[:-1], cache)
        begin = time.perf_counter()
        guesses = self._guess(int(ids[-1]), count, cache)
        self._own_s = time.perf_counter() - begin  # without what it read, which happens once
        return guesses

    def took(self, proposed: int, accepted: int, seconds: float) -> None:
        if self._asked:  # a step that read the prompt says nothing about guesses
            self._length.took(proposed, accepted, seconds + (self._own_s if proposed else 0.0))

    def _held(self) -> KvCache | None:
        if self._cache is None:
            self._cache = self._drafts.take_cache()
            if self._cache is not None:
                weakref.finalize(self, self._drafts.give_back, self._cache).atexit = False
        return self._cache

    def _catch_up(self, ids: Ints, cache: KvCache) -> None:
        """Let the draft model have read `ids` [n] and no more."""
        length = min(len(ids), len(self._known))
        different = np.flatnonzero(np.asarray(self._known[:length], np.int32) != ids[:length])
        start = int(different[0]) if len(different) else length
        del self._known[start:]
        cache.truncate(start)
        for first in range(start, len(ids), CHUNK_TOKENS):
            part = np.ascontiguousarray(ids[first : first + CHUNK_TOKENS])
            self._drafts.model.forward(part, cache)
            self._known += part.tolist()

    def _guess(self, token: int, count: int, cache: KvCache) -> Ints:
        """The draft model's likeliest tokens after `token`."""
        guesses = np.empty(count, np.int32)
        for place in range(count):
            best = self._drafts.model.forward_best(
                np.array([token], np.int32), cache, self._drafts.vocab_size
            )
            self._known.append(token)
            token = guesses[place] = best.ids[0]
        return guesses


WAY = DraftModel()
