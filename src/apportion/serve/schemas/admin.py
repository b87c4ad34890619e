"""What administrators ask and are told: models, the budget, and what is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from apportion.serve.schemas.status import Exact

Key = Annotated[str, Field(max_length=128, description="Of a kept prefix, as the list has it.")]


class Ask(BaseModel):
    """What is asked for; a word that is not known is an error."""

    model_config = ConfigDict(extra="forbid")


class BudgetAsk(Ask):
    """Another budget for the process."""

    ram: Annotated[int, Field(gt=0, le=1 << 56)] | Annotated[str, Field(max_length=32)] = Field(
        description="Bytes, or as `8GiB`, `50%`, `auto`."
    )


class PinAsk(Ask):
    """Which prefix shall stay, and how long."""

    model: str | None = Field(None, max_length=256)
    key: Key
    seconds: float = Field(ge=0, le=30 * 86_400, description="0: no longer.")


class ModelState(Exact):
    """A model after what was asked for."""

    name: str
    state: Literal["loaded", "loading", "unloaded", "failed"]
    ctx: int | None
    bytes: int = Field(description="Of memory that its plan gives it; 0 where there is no budget.")


class Prefix(Exact):
    """The beginning of prompts whose keys and values are kept. What its tokens are is not told."""

    key: str
    tokens: int
    bytes: int
    where: list[Literal["ram", "disk"]]
    pinned_s: float
    idle_s: float
    uses: int


class Prefixes(Exact):
    """What is kept of a model, the one that was used last first."""

    model: str
    prefixes: list[Prefix]


class Pinned(Exact):
    """How much is pinned."""

    tokens: int


class Dropped(Exact):
    """How much was dropped."""

    blocks: int
