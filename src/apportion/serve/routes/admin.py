"""What changes the server: models, the budget, what is kept. For the admin's key alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

from fastapi import APIRouter, Query

from apportion.serve.access import for_admins
from apportion.serve.bodies import BodyRoute
from apportion.serve.schemas.admin import (
    BudgetAsk,
    Dropped,
    ModelState,
    PinAsk,
    Pinned,
    Prefix,
    Prefixes,
)
from apportion.serve.schemas.status import Budget
from apportion.serve.schemas.told import told
from apportion.serve.site import Site, SiteHere
from apportion.serve.status.budget import budget_of

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.prefix.kept import KeptPrefix

T = TypeVar("T")
router = APIRouter(prefix="/v1/apportion", tags=["admin"], route_class=BodyRoute)
ModelName = Annotated[str | None, Query(max_length=256)]
MOST = 1000


@router.post("/models/{name:path}/load", response_model=None, responses=told(ModelState))
@for_admins
async def load(name: str, site: SiteHere) -> ModelState:
    """Load a model. Idle ones give way to it where it would not fit otherwise."""
    await site.models.load(site.models.offered(name).spec.name)
    return state_of(site, name)


@router.post("/models/{name:path}/unload", response_model=None, responses=told(ModelState))
@for_admins
async def unload(name: str, site: SiteHere) -> ModelState:
    """Give a model's memory back. Not while it is in use: that is status 409."""
    await site.models.unload(name)
    return state_of(site, name)


@router.put("/budget", response_model=None, responses=told(Budget))
@for_admins
async def set_budget(ask: BudgetAsk, site: SiteHere) -> Budget:
    """Change the budget of the process. Idle models are unloaded, then expert slots given back."""
    await site.models.set_ram(ask.ram)
    return budget_of(site.models.ledger, list(site.models.loaded().values()))


@router.get("/cache", response_model=None, responses=told(Prefixes))
@for_admins
async def cache(
    site: SiteHere, model: ModelName = None, most: Annotated[int, Query(ge=1, le=MOST)] = 100
) -> Prefixes:
    """Beginnings of prompts whose keys and values are kept."""
    name = site.models.offered(model).spec.name
    nothing: list[KeptPrefix] = []
    kept = await between_steps(site, name, lambda llm: llm.kept_prefixes(most), nothing)
    prefixes = [
        Prefix(
            key=one.key,
            tokens=one.num_tokens,
            bytes=one.nbytes,
            where=list(one.where),
            pinned_s=one.pinned_s,
            idle_s=one.idle_s,
            uses=one.num_uses,
        )
        for one in kept
    ]
    return Prefixes(model=name, prefixes=prefixes)


@router.post("/cache/pin", response_model=None, responses=told(Pinned))
@for_admins
async def pin(ask: PinAsk, site: SiteHere) -> Pinned:
    """Ask for a prefix to stay. It gives way only when there is nothing else left."""
    return Pinned(
        tokens=await between_steps(
            site, ask.model, lambda llm: llm.pin_prefix(key=ask.key, seconds=ask.seconds), 0
        )
    )


@router.delete("/cache", response_model=None, responses=told(Dropped))
@for_admins
async def drop(
    site: SiteHere, model: ModelName = None, key: Annotated[str | None, Query(max_length=128)] = None
) -> Dropped:
    """Drop a prefix and all that continue it, or, without a key, all; from memory and from disk."""
    return Dropped(blocks=await between_steps(site, model, lambda llm: llm.drop_prefixes(key=key), 0))


async def between_steps(site: Site, name: str | None, ask: Callable[[LLM], T], otherwise: T) -> T:
    """What a model says between two steps; of one that is not loaded `otherwise`."""
    offered = site.models.offered(name)
    if offered.llm is None:
        return otherwise
    async with site.models.use(offered.spec.name) as llm:
        return await site.pump.do(lambda: ask(llm))


def state_of(site: Site, name: str) -> ModelState:
    info = site.models.offered(name).info
    return ModelState(name=info.name, state=info.state, ctx=info.ctx, bytes=info.nbytes)
