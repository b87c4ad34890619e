"""A running completion, one delta at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeAlias

from apportion.engine.completion import Completion, Delta
from apportion.engine.engine import Engine
from apportion.engine.request import Request

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a phase (`pull` or `load` in bytes, `prefill` in tokens), how much is done, and the total."""


class Stream(Iterator[Delta]):
    """Iterate for deltas; `close()` (or leaving a `with` block) cancels; `completion` is the answer so far.

    While nobody waits for an answer, little of it is computed ahead of what was asked for. After an
    exception, Ctrl-C included, the model is usable and the stream may even be continued.
    """

    def __init__(self, engine: Engine, request: Request, on_progress: Progress | None = None) -> None:
        self._engine = engine
        self._request = request
        self._on_progress = on_progress
        self._is_read = False
        request.wanted = False

    @property
    def request(self) -> Request:
        return self._request

    def __next__(self) -> Delta:
        request = self._request
        if not request.deltas and not request.is_over:
            self._engine.drive(request, None if self._is_read or self._on_progress is None else self._tell)
        if request.deltas:
            return request.deltas.popleft()
        if request.error is not None:
            raise request.error
        raise StopIteration

    def close(self) -> None:
        """Cancel; a stream that has ended stays as it is."""
        if not self._request.is_over:
            self._engine.cancel(self._request)

    def run(self) -> Completion:
        """Compute to the end. Where that fails nobody is left to go on, so it is cancelled."""
        try:
            for _ in self:
                pass
        except BaseException:
            self.close()
            raise
        return self.completion

    @property
    def completion(self) -> Completion:
        """The completion so far; `cancelled` until it has ended otherwise."""
        return self._request.completion

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tell(self, request: Request) -> None:
        """Say how much of the prompt was read."""
        assert self._on_progress is not None
        total = request.sequence.num_prompt
        done = min(request.num_computed, total)
        self._is_read = done == total
        self._on_progress("prefill", done, total)
