"""The dashboard: one page that anybody may load; what it shows, it asks for with the visitor's own key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from apportion.serve.access import open_to_all
from apportion.serve.page import ASSETS, INDEX, SECURITY_HEADERS, page_files

router = APIRouter(include_in_schema=False)

FRESH = "no-cache"  # asked for again each time, and answered with 304 where nothing changed
FOR_EVER = "public, max-age=31536000, immutable"  # names hold a digest of the content


@router.api_route("/", methods=["GET", "HEAD"])
@open_to_all
async def page(request: Request) -> Response:
    """The dashboard."""
    return sent(request, INDEX, FRESH)


@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
@open_to_all
async def asset(request: Request, name: str) -> Response:
    """A script, a style sheet or a picture of the dashboard."""
    return sent(request, f"{ASSETS}/{name}", FOR_EVER)


def sent(request: Request, name: str, caching: str) -> Response:
    """A file, or that the visitor has it already.

    Raises:
        HTTPException: the page has no such file.
    """
    file = page_files().get(name)
    if file is None:
        raise HTTPException(404)
    headers = {**SECURITY_HEADERS, "Cache-Control": caching, "ETag": file.etag}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)
