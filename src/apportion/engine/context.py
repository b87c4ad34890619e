"""Contexts: text whose keys and values stay, to be gone on with, forked into branches, and joined again.

A branch shares what was computed before it. A join puts the branches' own keys and values behind each other,
so that what follows sees all of them and nothing is computed again. Branches begin at the same position; what
follows the join goes on behind the longest of them.

Source: X. Yang et al., "Multiverse: Your Language Models Secretly Decide How to Parallelize and Merge
Generation", arXiv:2506.09991 (2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from apportion.core.errors import DoesNotFit, Unsupported, UsageError
from apportion.engine.completion import Completion
from apportion.engine.engine import NO_TOKENS
from apportion.engine.kv.space import release_all
from apportion.engine.params import SamplingParams
from apportion.engine.prompts import Prompt, prompt_ids
from apportion.engine.request import Base, Request
from apportion.kernels.kv import ALL_LIVE
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.ops import Ints

if TYPE_CHECKING:
    from apportion.engine.llm import LLM


class Context:
    """Tokens of one sequence and their keys and values, which hold KV room until `close`.

        with llm.context("Two facts about the sea.") as sea:
            first, second = sea.fork(["\\n1.", "\\n2."])
            generate_together([first, second], params)
            sea.join([first, second], "\\nIn short:")
            print(sea.generate(params).text)

    For one thread. Contexts are gone on with together by `generate_together`.
    """

    def __init__(self, llm: LLM, ids: Ints = NO_TOKENS) -> None:
        self._llm = llm
        self._blocks: list[int] = []
        self._live: list[int] = []  # of each block, which places count
        self._num_places = 0  # that are filled, dead ones among them
        self._position = 0  # of the next token
        self._pending = ids  # tokens that were not computed yet
        self._parent: Context | None = None
        self._num_shared = 0  # places that are the parent's
        self._is_closed = False

    @property
    def num_tokens(self) -> int:
        """Positions so far: of joined branches, those of the longest one."""
        return self._position + len(self._pending)

    @property
    def num_blocks(self) -> int:
        """KV blocks that it holds, those that it shares among them."""
        return len(self._blocks)

    def extend(self, prompt: Prompt) -> None:
        """Text or token ids follow.

        Raises:
            UsageError: an id is outside the vocabulary.
        """
        self._require_open()
        ids = prompt_ids(prompt, self._llm.tokenizer)
        if isinstance(prompt, str) and self.num_tokens and len(ids) and ids[0] == self._llm.tokenizer.bos_id:
            ids = ids[1:]  # a text has one beginning
        self._pending = np.concatenate([self._pending, ids])

    def generate(self, params: SamplingParams | None = None) -> Completion:
        """Go on; the answer becomes a part of the context.

        Raises:
            ContextOverflow: with `max_tokens` it would be longer than the context.
            DoesNotFit: there is no KV room for that.
            UsageError: nothing was added since the last answer ended.
        """
        return generate_together([self], params)[0]

    def fork(self, prompts: Sequence[Prompt]) -> list[Context]:
        """A branch for each prompt, which follows what is here; all of them share it. This is read to its
        end, and goes on by `join`, or when something is added.

        Raises:
            DoesNotFit: there is no KV room for a block of each.
        """
        self._require_open()
        self._read()
        branches = [self._branch() for _ in prompts]
        for branch, prompt in zip(branches, prompts, strict=True):
            branch.extend(prompt)
        return branches

    def join(self, branches: Sequence[Context], prompt: Prompt) -> None:
        """Take the branches in, behind what is here, and a prompt behind them. They end with it.

        Raises:
            Unsupported: the model has layers that see a window of the last positions only.
            UsageError: one of them was not forked from here, or this went on since.
        """
        self._require_open()
        self._require_joinable(branches)
        for branch in branches:
            branch._read()
        self._mask_rest()
        for branch in branches:
            self._take_over(branch)
        self._num_places = BLOCK_TOKENS * len(self._blocks)
        self.extend(prompt)

    def close(self) -> None:
        """Give the room back."""
        if not self._is_closed:
            with self._llm.engine.between_steps():
                release_all(self._llm.engine.space.pool, self._blocks)
            self._blocks, self._live, self._is_closed = [], [], True

    def __enter__(self) -> Context:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- requests ---

    def _request(self, ids: Ints, params: SamplingParams | None) -> Request:
        """A request for what follows; when it ends, the context has its blocks again."""
        self._require_open()
        if not len(ids):
            raise UsageError("there is nothing to go on from", hint="extend the context first")
        base = Base(tuple(zip(self._blocks, self._live, strict=True)), self._num_places, self._position)
        return self._llm.request(ids, params, num_before=self._position, base=base, on_leave=self._take_back)

    def _take_back(self, blocks: list[int], num_places: int) -> None:
        self._live += [ALL_LIVE] * (len(blocks) - len(self._blocks))
        self._blocks = blocks
        self._position += num_places - self._num_places
        self._num_places = num_places

    def _read(self) -> None:
        """Compute what is pending."""
        if len(self._pending):
            unwanted = SamplingParams(temperature=0, max_tokens=1)  # a request chooses a token in any case
            self._llm.run([self._request(self._pending, unwanted)])
            self._pending = NO_TOKENS

    # --- branches ---

    def _branch(self) -> Context:
        """The same context once more: full blocks are shared, the last one is copied."""
        branch = Context(self._llm)
        space = self._llm.engine.space
        with self._llm.engine.between_steps():
            num_full = self._num_places // BLOCK_TOKENS
            room = space.grant(len(self._blocks) - num_full)
            if room is None:
                raise DoesNotFit("there is no KV room for another branch", available_blocks=space.available)
            for block in self._blocks[:num_full]:
                space.pool.share(block)
            copies = room.take(room.left)
            for source, target in zip(self._blocks[num_full:], copies, strict=True):
                space.pool.copy(source, target)
        branch._blocks, branch._live = self._blocks[:num_full] + copies, list(self._live)
        branch._num_places = branch._num_shared = self._num_places
        branch._position, branch._parent = self._position, self
        return branch

    def _require_joinable(self, branches: Sequence[Context]) -> None:
        if any(self._llm.model.config.windows):
            raise Unsupported(
                "branches cannot be joined",
                "some layers of the model see a window of positions only, and branches share positions",
                "go on with one of them, or give their text to one context",
            )
        for branch in branches:
            branch._require_open()
            if branch._parent is not self or branch._num_shared != self._num_places or len(self._pending):
                raise UsageError("a branch can be joined only to where it was forked, which must not go on")

    def _mask_rest(self) -> None:
        """What lies behind the last place is dead."""
        if used := self._num_places % BLOCK_TOKENS:
            self._live[-1] &= (1 << used) - 1

    def _take_over(self, branch: Context) -> None:
        """A branch's own blocks; in the first of them, a copy of ours, its own places only."""
        branch._mask_rest()
        num_full, used = divmod(branch._num_shared, BLOCK_TOKENS)
        blocks, live = branch._blocks[num_full:], branch._live[num_full:]
        if live:
            live[0] &= ALL_LIVE & ~((1 << used) - 1)
        self._blocks += blocks
        self._live += live
        self._position = max(self._position, branch._position)
        branch._blocks = branch._blocks[:num_full]
        branch.close()

    def _require_open(self) -> None:
        if self._is_closed:
            raise UsageError("the context was closed, or joined to another")


def generate_together(contexts: Sequence[Context], params: SamplingParams | None = None) -> list[Completion]:
    """Go on with several contexts of one model in the same steps; their answers, in the same order.

    Raises what `Context.generate` raises.
    """
    if not contexts:
        return []
    requests = [context._request(context._pending, params) for context in contexts]
    completions = contexts[0]._llm.run(requests)
    for context, request in zip(contexts, requests, strict=True):
        assert request.base is not None
        num_computed = context._position - request.base.position
        context._pending = request.sequence.ids[num_computed:].copy()
    return completions
