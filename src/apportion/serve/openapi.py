"""`/openapi.json`: what FastAPI knows of the routes, completed by what it does not."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from apportion.serve.access import MARK, Access
from apportion.serve.config import ServeConfig
from apportion.serve.schemas.chat import ChatChunk
from apportion.serve.schemas.completions import TextChunk
from apportion.serve.schemas.errors import Failure
from apportion.serve.schemas.messages import MessagesEvent
from apportion.serve.schemas.responses import ResponseEvent
from apportion.serve.schemas.told import STATUSES

EVENTS: tuple[type[BaseModel], ...] = (ChatChunk, TextChunk, ResponseEvent, MessagesEvent)
"""What the events of streams hold; no route returns them by themselves."""
REF = "#/components/schemas/{model}"
METHODS = ("get", "put", "post", "delete", "patch")


def describe(app: FastAPI, config: ServeConfig) -> None:
    """Let the application answer `/openapi.json` with all that there is to know."""

    def schema() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = described(app, config)
        return app.openapi_schema

    app.openapi = schema  # type: ignore[method-assign]  # FastAPI's own way of extending it


def described(app: FastAPI, config: ServeConfig) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # such an answer is never given
        schemas.pop(name, None)
    models: list[tuple[Any, Literal["validation", "serialization"]]] = [
        (model, "serialization") for model in (*EVENTS, Failure)
    ]
    _, extra = models_json_schema(models, ref_template=REF)
    schemas |= {name: model for name, model in extra["$defs"].items() if name not in schemas}
    classes = {
        route.path_format: getattr(route.endpoint, MARK, Access.ADMIN)
        for route in app.routes
        if isinstance(route, APIRoute)
    }
    for path, operations in document["paths"].items():
        for method in METHODS:
            if method in operations:
                complete(operations[method], classes.get(path, Access.ADMIN), config)
    if config.api_keys or config.admin_key:
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
    return document


def complete(operation: dict[str, Any], access: Access, config: ServeConfig) -> None:
    """Add to a route's description the errors that every route can give, and who may ask."""
    answers = operation["responses"]
    answers.pop("422", None)
    failure = {"application/json": {"schema": {"$ref": REF.format(model="Failure")}}}
    for status, text in STATUSES.items():
        answers.setdefault(str(status), {"description": text, "content": failure})
    operation["x-access"] = access.value
    closed = config.admin_key if access is Access.ADMIN else access is Access.USER and config.api_keys
    if closed:
        operation["security"] = [{"bearer": []}, {"key": []}]
