"""Who is in, who waits, and what each holds: rooms, tables and blocks."""

from __future__ import annotations

from collections.abc import Sequence

from apportion.engine.executor import Executor
from apportion.engine.kv.reuse import Entered, Found, Reuse
from apportion.engine.kv.space import KvSpace, blocks_for, release_all
from apportion.engine.request import Base, Held, Request, State
from apportion.policies.scheduler import RequestView, Yield


class Occupancy:
    """The requests that wait and those that entered. For one thread.

    A request enters when there is room for the longest that it can become, and takes blocks as it grows.

    Attributes:
        running: in the order in which they entered; waiting: those that yielded first, then as they came.
    """

    def __init__(self, executor: Executor, space: KvSpace, reuse: Reuse, block_tokens: int) -> None:
        self.running: dict[int, Request] = {}
        self.waiting: dict[int, Request] = {}
        self.space = space
        self._executor = executor
        self._reuse = reuse
        self._block_tokens = block_tokens

    def most_blocks(self, request: Request) -> int:
        """Blocks for the longest that a request and its branches can become."""
        if request.base is not None:
            most = blocks_for(request.base.num_places + request.most_tokens, self._block_tokens)
            return most - len(request.base.blocks)
        shared = request.sequence.num_prompt // self._block_tokens
        return blocks_for(request.most_tokens, self._block_tokens) + sum(
            blocks_for(branch.most_tokens, self._block_tokens) - shared for branch in request.branches
        )

    def view(self, request: Request) -> RequestView:
        """What a scheduler sees of a request."""
        if request.held is not None:
            return request.view(request.num_computed, len(request.held.blocks) + request.held.room.left)
        found = self._found(request)
        return request.view(found.num_tokens, self.most_blocks(request) - found.num_in_use)

    def _found(self, request: Request) -> Found:
        return Found(0, 0) if request.computes_all else self._reuse.find(request)

    # --- coming ---

    def fits(self, request: Request) -> bool:
        """Whether a waiting request can be admitted."""
        return self.most_blocks(request) - self._found(request).num_in_use <= self.space.available

    def admit(self, request: Request) -> int:
        """Let a waiting request in; how many of its tokens need no computing, as far as memory holds them."""
        entered = Entered(()) if request.computes_all else self._reuse.enter(request)
        shared, last = list(entered.blocks), None
        if len(shared) * self._block_tokens == len(request.sequence.ids):
            # All of it is there. Its last token is computed again, for its logits, in a copy of its block;
            # that may be given up before, but nothing is written to it.
            last = shared.pop()
            self.space.pool.release(last)
        room = self.space.grant(self.most_blocks(request) - len(shared))
        assert room is not None, "more was admitted than fits"
        request.held = held = Held(room, self._executor.new_table(), num_kept=len(shared))
        if request.base is not None:
            self._go_on_from(held, request.base)
        self._add_blocks(held, shared)
        if last is not None:
            (copy,) = room.take()
            self.space.pool.copy(last, copy)
            self._add_blocks(held, [copy])
        request.num_computed = self._num_ready(request, len(entered.blocks))
        request.state = State.RUNNING
        if entered.num_stored:
            request.state = State.LOADING
            self._reuse.load(request, room.take(entered.num_stored))
        del self.waiting[request.id]
        self.running[request.id] = request
        return request.num_computed

    def loading(self) -> list[Request]:
        """Requests that wait for what is stored."""
        return [request for request in self.running.values() if request.state is State.LOADING]

    def take_loaded(self, request: Request) -> int:
        """Let a loading request run if all that could be read is there; how many tokens that brought."""
        if not self._reuse.loaded(request):
            return 0
        held = holdings(request)
        blocks, lost = self._reuse.take_loaded(request)
        self._add_blocks(held, blocks)
        release_all(self.space.pool, lost)
        held.room.take_back(len(lost))
        num_before = request.num_computed
        request.num_computed = self._num_ready(request, len(held.blocks))
        request.state = State.RUNNING
        self.keep(request)
        return request.num_computed - num_before

    def _num_ready(self, request: Request, num_blocks: int) -> int:
        """Tokens that blocks of earlier requests spare: never the last one, whose logits are needed."""
        return min(num_blocks * self._block_tokens, len(request.sequence.ids) - 1)

    def branch_off(self, request: Request) -> list[Request]:
        """The other answers to a prompt that was read to its end come in: each shares its full blocks, and
        has a copy of the last one.
        """
        branches, request.branches = request.branches, []
        held, num_shared = holdings(request), request.num_computed // self._block_tokens
        if branches:
            # While they are its own: a block that others share cannot be exchanged for one that is kept.
            self.keep(request)
        for branch in branches:
            most = blocks_for(branch.most_tokens, self._block_tokens)
            branch.held = own = Held(held.room.split(most - num_shared), self._executor.new_table())
            for block in held.blocks[:num_shared]:
                self.space.pool.share(block)
            self._add_blocks(own, held.blocks[:num_shared])
            for source in held.blocks[num_shared:]:
                copies = own.room.take()
                self.space.pool.copy(source, copies[0])
                self._add_blocks(own, copies)
            own.num_kept = num_shared
            branch.num_computed = branch.num_cached = request.num_computed
            branch.observer = request.observer
            branch.spent.admitted_s = request.spent.admitted_s
            branch.state = State.RUNNING
            self.running[branch.id] = branch
        return branches

    # --- staying ---

    def grow(self, request: Request, num_tokens: int) -> None:
        """Take the blocks that so many positions lie in."""
        held = holdings(request)
        missing = blocks_for(num_tokens, self._block_tokens) - len(held.blocks)
        if missing > 0:
            self._add_blocks(held, held.room.take(missing))

    def keep(self, request: Request) -> None:
        """Let others find the blocks that are full and do not change any more. Where somebody else computed
        the same, one of the two is enough.
        """
        if request.base is not None:  # its blocks do not stand for a beginning of tokens
            return
        held, num_full = holdings(request), request.num_computed // self._block_tokens
        first, own = held.num_kept, held.blocks[held.num_kept : num_full]
        for place, kept in enumerate(self._reuse.keep(request, first, own) if own else (), first):
            if kept != held.blocks[place]:
                self.space.pool.share(kept)
                self.space.pool.release(held.blocks[place])
                held.table.exchange(place, kept)
                held.blocks[place] = kept
        held.num_kept = max(first, num_full)

    # --- going ---

    def make_yield(self, request: Request, how: Yield) -> None:
        """Take a request's room away; it waits for its turn at the front. What it computed is kept for when
        it comes back, or, to `recompute`, is not. What it goes on from stays its own.
        """
        self._executor.release(holdings(request).table)
        if how == "swap":
            self.keep(request)
        own = 0 if request.base is None else len(request.base.blocks)
        release_all(self.space.pool, holdings(request).blocks[own:])
        self._vacate(request)
        request.state = State.WAITING
        request.spent.yields += 1
        self.waiting = {request.id: request, **self.waiting}

    def leave(self, request: Request, *, keep: bool, finished: bool = False) -> None:
        """A request goes, and gives back what it holds."""
        self.waiting.pop(request.id, None)
        base = request.base or Base()
        blocks, num_places = [block for block, _ in base.blocks], base.num_places
        if request.held is not None:
            self._executor.release(request.held.table)
            if keep:
                self.keep(request)
            if finished and request.base is None:
                self._reuse.finished(request)
            blocks, num_places = request.held.blocks, num_places + request.num_computed
            self._vacate(request)
        if request.on_leave is None:
            release_all(self.space.pool, blocks)
        else:
            request.on_leave(blocks, num_places)

    def _vacate(self, request: Request) -> None:
        """A request is in no more; its blocks are somebody else's to give back."""
        if request.state is State.LOADING:
            release_all(self.space.pool, self._reuse.break_off(request))
        self._executor.forget((request.id,))
        holdings(request).room.close()
        request.held = None
        request.num_computed = request.first_layer = request.num_in_flight = 0
        del self.running[request.id]

    def _go_on_from(self, held: Held, base: Base) -> None:
        for block, live in base.blocks:
            held.table.append(block, live)
            held.blocks.append(block)

    def _add_blocks(self, held: Held, blocks: Sequence[int]) -> None:
        held.blocks += blocks
        for block in blocks:
            held.table.append(block)


def holdings(request: Request) -> Held:
    """What a request that entered holds."""
    assert request.held is not None
    return request.held
