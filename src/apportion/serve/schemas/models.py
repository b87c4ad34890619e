"""The models that are served."""

from __future__ import annotations

from typing import Any, Literal

from apportion.serve.schemas.base import Told


class ModelCard(Told):
    """A model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    x_apportion: dict[str, Any] | None = None


class ModelCards(Told):
    """All models, the default one first."""

    object: Literal["list"]
    data: list[ModelCard]


class Health(Told):
    """The process answers."""

    status: Literal["ok"]


class Readiness(Told):
    """Whether a model is loaded and requests are taken."""

    ready: bool
    draining: bool
    models: int
