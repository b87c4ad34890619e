"""What metrics are read from: the server as one scrape sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apportion.engine import LLM
from apportion.serve.answer import Answer
from apportion.serve.meters import Meter
from apportion.serve.metrics.metric import Values
from apportion.serve.models import ModelInfo

if TYPE_CHECKING:
    from apportion.serve.site import Site


@dataclass(frozen=True, slots=True)
class Sight:
    """The server at one moment."""

    site: Site
    now_s: float
    models: tuple[ModelInfo, ...]
    loaded: dict[str, LLM]
    answers: tuple[Answer, ...]

    @classmethod
    def of(cls, site: Site) -> Sight:
        listed, loaded = tuple(site.models.listed()), site.models.loaded()
        return cls(site, site.meters.now(), listed, loaded, tuple(site.pump.answers()))

    @property
    def llms(self) -> list[LLM]:
        return list(self.loaded.values())

    @property
    def meters(self) -> list[Meter]:
        """Of every model that the server offers."""
        return list(self.site.meters.by_model.values())


def each_model(read: Callable[[LLM], float]) -> Callable[[Sight], Values]:
    """A value of each loaded model."""

    def values(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, llm in sight.loaded.items():
            yield (name,), read(llm)

    return values


def each_split(read: Callable[[LLM], dict[str, float]]) -> Callable[[Sight], Values]:
    """Values of each loaded model, by one more label."""

    def values(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
        for name, llm in sight.loaded.items():
            for label, value in read(llm).items():
                yield (name, label), value

    return values
