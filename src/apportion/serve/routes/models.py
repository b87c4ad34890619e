"""The models that the server offers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from apportion.serve.access import for_users
from apportion.serve.models import ModelInfo
from apportion.serve.schemas.models import ModelCard, ModelCards
from apportion.serve.schemas.told import told
from apportion.serve.site import SiteHere

router = APIRouter()


@router.get("/v1/models", response_model=None, responses=told(ModelCards))
@for_users
async def list_models(site: SiteHere) -> dict[str, Any]:
    """All models, the default one first."""
    return {"object": "list", "data": [described(info) for info in site.models.listed()]}


@router.get("/v1/models/{name:path}", response_model=None, responses=told(ModelCard))
@for_users
async def one_model(name: str, site: SiteHere) -> dict[str, Any]:
    """One model."""
    return described(site.models.offered(name).info)


def described(info: ModelInfo) -> dict[str, Any]:
    return {
        "id": info.name,
        "object": "model",
        "created": info.created_s,
        "owned_by": "apportion",
        "x_apportion": {"state": info.state, "ctx": info.ctx, "progress": info.progress},
    }
