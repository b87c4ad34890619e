"""A model whose pages hold token ids and whose next token is a hash of all that a sequence's pages say.

A page that is missing, stale, torn or another's gives another token at once; so does one that a layer skipped
or that holds a token at another position. Alone, a prompt's answer is known without any engine.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Sequence

import numpy as np

from apportion.engine.executor import RunItem, Table
from apportion.engine.kv import BlockPool
from apportion.formats.block import Floats
from apportion.kernels.kv import ALL_LIVE
from apportion.kernels.ops import Ints
from apportion.text.tokenizer import Tokenizer

VOCAB, END = 64, 63


class Numbers(Tokenizer):
    """A tokenizer of numbers: token 7 is the text `7 `, the last one ends an answer."""

    def __init__(self, vocab_size: int = VOCAB, ends: bool = True) -> None:
        self._vocab_size = vocab_size
        self._ends = frozenset({vocab_size - 1}) if ends else frozenset[int]()

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def eog_ids(self) -> frozenset[int]:
        return self._ends

    @property
    def space_prefix(self) -> bool:
        return False

    def token_bytes(self, token: int) -> bytes:
        return b"%d " % token

    def is_special(self, token: int) -> bool:
        return token in self._ends


def next_token(context: Ints) -> int:
    """What follows a context [n] int32."""
    return zlib.crc32(np.ascontiguousarray(context).tobytes()) % VOCAB


def answer_alone(prompt: Ints, most: int) -> list[int]:
    """The tokens that follow a prompt which nothing shares a step with, up to an end or to `most`."""
    ids = np.empty(len(prompt) + most, np.int32)
    ids[: len(prompt)] = prompt
    for length in range(len(prompt), len(ids)):
        token = next_token(ids[:length])
        if token == END:
            return [int(one) for one in ids[len(prompt) : length]]
        ids[length] = token
    return [int(one) for one in ids[len(prompt) :]]


def block_nbytes(block_tokens: int, num_layers: int) -> int:
    """Of a block of the scripted model."""
    return 4 * block_tokens * num_layers


class ScriptedTable(list[int]):
    """A sequence's blocks."""

    def append(self, block: int, live: int = ALL_LIVE) -> None:
        assert live == ALL_LIVE, "a script sees whole blocks"
        super().append(block)

    def exchange(self, index: int, block: int) -> None:
        self[index] = block


class ScriptedExecutor:
    """Writes tokens into pages, layer by layer, and reads them back for the next one.

    Args:
        pool: of blocks of `block_nbytes(block_tokens, num_layers)`.
        before_run: lets time pass for the items. What it raises leaves garbage in the items' pages.
    """

    def __init__(
        self,
        pool: BlockPool,
        block_tokens: int,
        num_layers: int,
        before_run: Callable[[Sequence[RunItem]], None],
        *,
        streams: bool = False,
    ) -> None:
        self._pool = pool
        self._block_tokens = block_tokens
        self._num_layers = num_layers
        self._before_run = before_run
        self._streams = streams
        self._parked: dict[
            int, tuple[int, int, int]
        ] = {}  # request -> start, tokens, layer of its hidden states

    @property
    def num_layers(self) -> int:
        return self._num_layers

    @property
    def streams(self) -> bool:
        return self._streams

    @property
    def finds_best(self) -> bool:
        return False

    @property
    def layer(self) -> int:
        return 0

    def new_table(self) -> ScriptedTable:
        return ScriptedTable()

    def release(self, table: Table) -> None:
        """It holds nothing but blocks."""

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        """Its runs are short."""

    def run(self, items: Sequence[RunItem]) -> list[Floats | None]:
        assert len({item.request for item in items}) == len(items), "a request twice in a step"
        for item in items:
            self._check(item)
        try:
            self._before_run(items)
        except Exception:
            for item in items:
                self._write(item, np.full(len(item.ids), -1, np.int32))
            raise
        for item in items:
            self._write(item, item.ids)
            self._park(item)
        return [self._logits(item) for item in items]

    def forget(self, requests: Collection[int]) -> None:
        for request in requests:
            self._parked.pop(request, None)

    def _check(self, item: RunItem) -> None:
        parked = self._parked.get(item.request)
        expected = None if item.first_layer == 0 else (item.start, len(item.ids), item.first_layer)
        assert parked == expected, f"hidden states {parked} of request {item.request} go on as {expected}"
        assert 0 <= item.first_layer < item.end_layer <= self._num_layers, item
        assert len(item.ids) > 0, item
        assert not item.num_logits or item.end_layer == self._num_layers, item

    def _park(self, item: RunItem) -> None:
        self._parked.pop(item.request, None)
        if item.end_layer < self._num_layers:
            self._parked[item.request] = (item.start, len(item.ids), item.end_layer)

    def _logits(self, item: RunItem) -> Floats | None:
        if not item.num_logits:
            return None
        end = item.start + len(item.ids)
        rows = self._read(item, end)
        logits = np.zeros((item.num_logits, VOCAB), np.float32)
        for row in range(item.num_logits):
            logits[row, self._next(rows[:, : end - item.num_logits + row + 1])] = 1
        return logits

    def _next(self, rows: Ints) -> int:
        """The token after what the pages say, [layers, n]."""
        ids = rows[0] % VOCAB
        intact = np.array_equal(rows, self._rows(ids, 0, 0, self._num_layers))
        return next_token(ids if intact else rows)

    def _rows(self, ids: Ints, start: int, first: int, end: int) -> Ints:
        """What the pages of layers first..end - 1 say of tokens from `start` on, [layers, n]."""
        positions = np.arange(start, start + len(ids), dtype=np.int32)
        layers = np.arange(first, end, dtype=np.int32)[:, None]
        rows: Ints = (positions * self._num_layers + layers) * VOCAB + ids
        return rows

    def _write(self, item: RunItem, ids: Ints) -> None:
        start = item.start if item.position is None else item.position
        rows = self._rows(ids, start, item.first_layer, item.end_layer)
        for place in range(item.start, item.start + len(ids)):
            page, offset = self._page(item, place)
            page[item.first_layer : item.end_layer, offset] = rows[:, place - item.start]

    def _read(self, item: RunItem, num_tokens: int) -> Ints:
        """[layers, num_tokens] of a request's first places."""
        num_blocks = -(-num_tokens // self._block_tokens)
        pages = [self._page(item, index * self._block_tokens)[0] for index in range(num_blocks)]
        return np.concatenate(pages, axis=1)[:, :num_tokens]

    def _page(self, item: RunItem, place: int) -> tuple[Ints, int]:
        """The page [layers, block_tokens] that a place lies in, and where in it."""
        assert isinstance(item.table, ScriptedTable)
        content = self._pool.view(item.table[place // self._block_tokens])
        return content.view(np.int32).reshape(self._num_layers, -1), place % self._block_tokens
