"""The meters of a server: one for each model that it knows, and counts of what it refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from weakref import ref

from apportion.engine import LLM
from apportion.engine.engine import Engine
from apportion.serve.answer import Answer
from apportion.serve.meters.finished import Finished
from apportion.serve.meters.minute import SPAN_S, Minute, Sums
from apportion.serve.meters.sources import nbytes_read


class Meter:
    """Of one model. It keeps no model alive that was unloaded.

    Attributes:
        minute: of the steps of the engine that was measured last; None before the first one.
        finished: requests that are over, whenever the model was loaded.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.minute: Minute | None = None
        self.finished = Finished()
        self._engine: Callable[[], Engine | None] = lambda: None

    def attach(self, llm: LLM) -> None:
        """Measure the model's steps from now on, if that is not so already."""
        if self._engine() is not llm.engine:
            self._engine = ref(llm.engine)
            self.minute = Minute(
                llm.model.config.num_layers, llm.engine.counters, partial(nbytes_read_of, ref(llm))
            )
            llm.engine.on_step = self.minute

    def sums(self, now_s: float, span_s: int = SPAN_S) -> Sums:
        """Of the last minute, or of fewer seconds."""
        return Sums() if self.minute is None else self.minute.sums(now_s, span_s)

    def ended(self, answer: Answer) -> None:
        """An answer is over."""
        self.finished.add(answer.requests, failed=answer.error is not None)
        if self.minute is not None:
            for request in answer.requests:
                self.minute.forget(request.id)


class Meters:
    """Of a server. There are as many as models in its configuration, whatever clients ask for.

    Args:
        names: of the models.
        now: the engines' clock.

    Attributes:
        answered: HTTP requests, by the route's template (empty for none of ours) and the status.
        mismatches: calls in answers that could not be read, by model.
    """

    def __init__(self, names: Iterable[str], now: Callable[[], float] = time.monotonic) -> None:
        self.by_model = {name: Meter(name) for name in names}
        self.answered: Counter[tuple[str, int]] = Counter()
        self.mismatches: Counter[str] = Counter()
        self.now = now

    def __getitem__(self, name: str) -> Meter:
        return self.by_model[name]

    def began(self, answer: Answer) -> None:
        """An answer was asked for; one that names no model of the server's is not measured."""
        if meter := self.by_model.get(answer.label.model):
            meter.attach(answer.llm)

    def ended(self, answer: Answer) -> None:
        """An answer is over."""
        if meter := self.by_model.get(answer.label.model):
            meter.ended(answer)

    def mismatched(self, answer: Answer) -> None:
        """A call in an answer could not be read."""
        self.mismatches[answer.label.model] += 1


def nbytes_read_of(llm: Callable[[], LLM | None]) -> int:
    """`nbytes_read` of a model that may be gone."""
    here = llm()
    return 0 if here is None else nbytes_read(here)
