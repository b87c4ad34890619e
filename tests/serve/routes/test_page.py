"""The dashboard is served to anybody, whole, cached well, and nothing besides it."""

from __future__ import annotations

import httpx
import pytest

from apportion.serve.page import INDEX, SECURITY_HEADERS, page_files

ASSETS = [name for name in page_files() if name != INDEX]


def test_the_page_is_at_the_root_and_is_asked_for_again_each_time(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.content == page_files()[INDEX].content
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ASSETS)
def test_assets_have_their_type_and_are_kept_for_ever(client: httpx.Client, name: str) -> None:
    answer = client.get(f"/{name}")
    assert answer.content == page_files()[name].content
    types = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
    assert answer.headers["content-type"] == types[name.rsplit(".", 1)[1]]
    assert "immutable" in answer.headers["cache-control"]


@pytest.mark.parametrize("path", ["/", f"/{ASSETS[0]}"])
def test_a_visitor_who_has_a_file_is_told_so(client: httpx.Client, path: str) -> None:
    etag = client.get(path).headers["etag"]
    again = client.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", f"/{ASSETS[0]}"])
def test_every_file_comes_with_the_headers_that_keep_strangers_out(client: httpx.Client, path: str) -> None:
    headers = client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == dict(SECURITY_HEADERS)


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/assets/..%2f..%2fpage.py",
        "/assets/..%5cpage.py",
        "/assets//etc/passwd",
        "/assets/sources.sha256",
        "/assets/",
        "/assets/none.js",
        "/static/index.html",
        "/sources.sha256",
    ],
)
def test_nothing_but_the_page_s_own_files_is_served(client: httpx.Client, path: str) -> None:
    answer = client.get(httpx.URL(str(client.base_url), raw_path=path.encode()))
    assert answer.status_code == 404


def test_the_head_of_the_page_comes_without_its_body(client: httpx.Client) -> None:
    answer = client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(page_files()[INDEX].content)
