"""A running completion, one delta at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeAlias

from apportion.engine.completion import Completion, Delta, Timings
from apportion.engine.runner import Runner
from apportion.engine.sequence import Sequence
from apportion.formats.block import Floats

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with a phase (`pull` or `load` in bytes, `prefill` in tokens), how much is done, and the total."""


class Stream(Iterator[Delta]):
    """Iterate for deltas; `close()` (or leaving a `with` block) cancels; `completion` is the answer so far.

    Nothing is computed ahead of what is asked for. After an exception, Ctrl-C included, the model is usable
    and the stream may even be continued.
    """

    def __init__(self, runner: Runner, sequence: Sequence, on_progress: Progress | None = None) -> None:
        self._runner = runner
        self._sequence = sequence
        self._on_progress = on_progress
        self._cached_tokens = runner.num_shared(sequence)
        self._start = time.perf_counter()
        self._prefill_s = 0.0
        self._ttft_s: float | None = None
        self._decode_s = 0.0
        self._decode_steps = 0

    def __next__(self) -> Delta:
        if self._sequence.finish_reason is not None:
            raise StopIteration
        if self._ttft_s is None:
            delta = self._sequence.extend(self._prefill())
            self._ttft_s = time.perf_counter() - self._start
            return delta
        begin = time.perf_counter()
        delta = self._sequence.extend(self._decode())
        self._decode_s += time.perf_counter() - begin  # the caller's own time between steps does not count
        self._decode_steps += 1
        return delta

    def close(self) -> None:
        """Cancel; a stream that has ended stays as it is."""
        self._sequence.cancel()

    def run(self) -> Completion:
        """Compute to the end."""
        for _ in self:
            pass
        return self.completion

    @property
    def completion(self) -> Completion:
        """The completion so far; `cancelled` until it has ended otherwise."""
        sequence = self._sequence
        return Completion(
            text=sequence.text,
            token_ids=tuple(sequence.output.tolist()),
            finish_reason=sequence.finish_reason or "cancelled",
            prompt_tokens=sequence.num_prompt,
            cached_tokens=self._cached_tokens,
            seed=sequence.sampler.seed,
            timings=self._timings(),
            logprobs=tuple(sequence.logprobs) if sequence.sampler.params.logprobs is not None else None,
        )

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _prefill(self) -> Floats:
        """Read the prompt in chunks; the logits that follow it."""
        begin = time.perf_counter()
        total = self._sequence.num_prompt
        logits = None
        while logits is None:
            if self._on_progress:
                self._on_progress("prefill", self._runner.num_shared(self._sequence), total)
            logits = self._runner.step(self._sequence)
        if self._on_progress:
            self._on_progress("prefill", total, total)
        self._prefill_s = time.perf_counter() - begin
        return logits

    def _decode(self) -> Floats:
        """The logits that follow the last token; more than one step if another stream took the cache."""
        logits = None
        while logits is None:
            logits = self._runner.step(self._sequence)
        return logits

    def _timings(self) -> Timings:
        computed = self._sequence.num_prompt - self._cached_tokens
        return Timings(
            prefill_s=self._prefill_s,
            decode_s=self._decode_s,
            ttft_s=self._ttft_s or 0.0,
            prefill_tok_s=computed / self._prefill_s if self._prefill_s else 0.0,
            decode_tok_s=self._decode_steps / self._decode_s if self._decode_s else 0.0,
        )
