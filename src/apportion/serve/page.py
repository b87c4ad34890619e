"""The dashboard's built files, kept in memory: they are few, and what is not among them is not served."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

INDEX = "index.html"
ASSETS = "assets"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Nothing from elsewhere, nothing inline; a page of somebody else cannot frame this one.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page; `etag` is quoted, as HTTP writes it."""

    content: bytes
    media_type: str
    etag: str


@cache
def page_files() -> Mapping[str, PageFile]:
    """All files of the page by their paths below it, as `index.html` and `assets/index-B4On.js`."""
    return dict(_read())


def _read() -> Iterator[tuple[str, PageFile]]:
    root = files("apportion.serve") / "static"
    yield INDEX, _page_file(root / INDEX)
    for entry in sorted((root / ASSETS).iterdir(), key=lambda entry: entry.name):
        yield f"{ASSETS}/{entry.name}", _page_file(entry)


def _page_file(entry: Traversable) -> PageFile:
    content = entry.read_bytes()
    suffix = entry.name[entry.name.rindex(".") :]
    return PageFile(content, MEDIA_TYPES[suffix], f'"{blake2b(content, digest_size=12).hexdigest()}"')
