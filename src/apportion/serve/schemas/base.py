"""What all models share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Asked(BaseModel):
    """A body that clients send. Nothing is turned into another type; fields that are not known are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    def given(self) -> dict[str, Any]:
        """The body as it was sent."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class Told(BaseModel):
    """A body that clients get."""

    model_config = ConfigDict(extra="allow")


def within(low: float | None = None, high: float | None = None, about: str | None = None, **more: Any) -> Any:
    """A field that may be left out; the bounds are for the documentation, the engine holds them."""
    bounds = {"minimum": low, "maximum": high, **more}
    stated = {name: bound for name, bound in bounds.items() if bound is not None}
    return Field(None, description=about, json_schema_extra=stated or None)
