"""What the server does now, and what it would do with another budget."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from apportion.core.errors import NotFound
from apportion.serve.access import Caller, CallerHere, for_users
from apportion.serve.bodies import BodyRoute
from apportion.serve.schemas.status import Cancelled, ExpertMap, PlanAsk, Planned, Status
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere
from apportion.serve.status import expert_map, snapshot_of
from apportion.serve.status.broadcast import Broadcast, Viewer

router = APIRouter(prefix="/v1/apportion", tags=["apportion"], route_class=BodyRoute)
ModelName = Annotated[str | None, Query(max_length=256)]


@router.get("/status", response_model=None, responses=told(Status))
@for_users
async def status(site: SiteHere, caller: CallerHere) -> Response:
    """The server now: budget, models, requests, rates. Callers see their own requests, administrators all."""
    return Response(snapshot_of(site).written_for(caller), media_type="application/json")


@router.get("/events", response_model=None, responses=told(Status, event=Status))
@for_users
async def events(site: SiteHere, caller: CallerHere) -> Response:
    """The status every second, as server-sent events. Who does not keep up is let go."""
    broadcast = site.broadcast
    return StreamingResponse(
        shown(broadcast, broadcast.join(), caller),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def shown(broadcast: Broadcast, viewer: Viewer, caller: Caller) -> AsyncIterator[bytes]:
    """Snapshots on the wire."""
    async for snapshot in broadcast.watch(viewer):
        yield b"data: " + snapshot.written_for(caller) + b"\n\n"


@router.get("/experts", response_model=None, responses=told(ExpertMap))
@for_users
async def experts(site: SiteHere, model: ModelName = None) -> ExpertMap:
    """Layers by experts: which are in memory, and how often each was found and read."""
    offered = site.models.offered(model)
    return expert_map(offered.spec.name, offered.llm)


@router.delete("/requests/{request_id}", response_model=None, responses=told(Cancelled))
@for_users
async def cancel(request_id: str, site: SiteHere, caller: CallerHere) -> dict[str, Any]:
    """End a request: one's own, or, for an administrator, any. It stops within a step."""
    for answer in site.pump.answers():
        if answer.label.id == request_id and (caller.is_admin or answer.label.owner == caller.name):
            answer.cancel()
            return {"id": request_id, "cancelled": True}
    raise NotFound("there is no such request", "it is over, or somebody else's", "the status lists yours")


@router.post("/plan", response_model=None, responses=told(Planned))
@for_users
async def plan(ask: PlanAsk, site: SiteHere) -> Any:
    """What the server would get within another budget, from headers alone."""
    return await site.planning.plan(site.models.offered(ask.model).spec, ask.ram, ask.ctx)
