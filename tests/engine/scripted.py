"""An executor whose pages hold token ids: its next token is a function of all that a sequence's pages say, so
that a page that is missing, stale or another's gives another token at once.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence

import numpy as np

from apportion.engine.executor import RunItem, Table
from apportion.engine.kv import BlockPool, KvSpace
from apportion.engine.params import SamplingParams
from apportion.engine.request import Request
from apportion.engine.sequence import Sequence as TokenSequence

BLOCK, LAYERS, VOCAB, EOG = 4, 3, 64, 63


class Tokens:
    """A tokenizer of numbers."""

    vocab_size, eog_ids, adds_bos, bos_id, space_prefix = VOCAB, frozenset({EOG}), False, None, False

    def token_bytes(self, token: int) -> bytes:
        return b"%d " % token

    def is_special(self, token: int) -> bool:
        return token == EOG


def next_token(context: Sequence[int]) -> int:
    """What follows; never the end."""
    return zlib.crc32(np.asarray(context, np.int32).tobytes()) % EOG


def continued(prompt: Sequence[int], num_tokens: int) -> list[int]:
    """The answer to a prompt that nothing shares a step with."""
    ids = list(prompt)
    for _ in range(num_tokens):
        ids.append(next_token(ids))
    return ids[len(prompt) :]


class ScriptedTable(list[int]):
    def exchange(self, index: int, block: int) -> None:
        self[index] = block


class ScriptedExecutor:
    """Computes nothing but what its pages say; remembers the items of each run.

    Args:
        script: the next token for a context.
        padding: logits beyond the vocabulary, which are never to be chosen.
    """

    num_layers, streams, finds_best, layer = LAYERS, False, False, 0

    def __init__(
        self,
        pool: BlockPool,
        script: Callable[[list[int]], int] = next_token,
        vocab: int = VOCAB,
        padding: int = 0,
    ) -> None:
        self.pool = pool
        self.runs: list[list[RunItem]] = []
        self.error: BaseException | None = None
        self._script, self._vocab, self._padding = script, vocab, padding
        self._layers: dict[int, int] = {}

    @property
    def counts(self) -> list[int]:
        """Tokens of each run."""
        return [sum(len(item.ids) for item in run) for run in self.runs]

    def new_table(self) -> ScriptedTable:
        return ScriptedTable()

    def release(self, table: Table) -> None:
        """It holds nothing but blocks."""

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        """Its runs are short."""

    def run(self, items: Sequence[RunItem]) -> list[np.ndarray | None]:
        for item in items:
            assert self._layers.get(item.request, 0) == item.first_layer
        if self.error is not None:
            error, self.error = self.error, None
            for item in items:
                self._write(item, item.ids + 1)  # half of it is done, and wrong
            raise error
        self.runs.append(list(items))
        return [self._run(item) for item in items]

    def forget(self, requests: Collection[int]) -> None:
        for request in requests:
            self._layers.pop(request, None)

    def _run(self, item: RunItem) -> np.ndarray | None:
        self._layers[item.request] = item.end_layer % LAYERS
        if item.first_layer == 0:
            self._write(item, item.ids)
        if not item.num_logits:
            return None
        end = item.start + len(item.ids)
        rows = np.zeros((item.num_logits, self._vocab + self._padding), np.float32)
        rows[:, self._vocab :] = 50
        for row in range(item.num_logits):
            rows[row, self._script(self._read(item, end - item.num_logits + row + 1))] = 20
        return rows

    def _page(self, block: int) -> np.ndarray:
        return self.pool.view(block).view(np.int32)

    def _write(self, item: RunItem, ids: np.ndarray) -> None:
        for place, token in enumerate(ids, item.start):
            self._page(item.table[place // BLOCK])[place % BLOCK] = token

    def _read(self, item: RunItem, num_tokens: int) -> list[int]:
        return [int(self._page(item.table[place // BLOCK])[place % BLOCK]) for place in range(num_tokens)]


def make_pool(num_blocks: int) -> BlockPool:
    return BlockPool(np.full((num_blocks, 4 * BLOCK), 255, np.uint8))


def make_space(num_blocks: int) -> KvSpace:
    return KvSpace(make_pool(num_blocks))


def make_request(prompt: Sequence[int], max_tokens: int = 8, **options: object) -> Request:
    params = SamplingParams(temperature=0, max_tokens=max_tokens).completed(SamplingParams())
    return Request(TokenSequence(np.array(prompt, np.int32), params, Tokens(), 4096), **options)
