"""The server that is loaded: where it is, what it calls its model, and how a request to it looks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import orjson

from apportion.bench.load.exchange import Address, Reply, exchange, request_bytes
from apportion.core.errors import NotFound, SourceError, UsageError

Endpoint: TypeAlias = Literal["chat", "completions"]
PATHS: dict[Endpoint, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
PATIENCE_S = 60.0  # for a question that is no load


@dataclass(frozen=True, slots=True)
class Server:
    """A server and how it is asked.

    Attributes:
        key: what it wants to know callers by; empty where it asks for none. Never shown.
        ignore_eos: have answers of the length that is asked for. It is no field of OpenAI's own servers.
    """

    address: Address
    model: str
    endpoint: Endpoint = "chat"
    key: str = field(default="", repr=False)
    ignore_eos: bool = True

    def request(self, prompt: str, output: int, *, stream: bool = True) -> bytes:
        """A greedy request for an answer of so many tokens."""
        body: dict[str, Any] = {"model": self.model, "max_tokens": output, "temperature": 0}
        if self.endpoint == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        if self.ignore_eos:
            body["ignore_eos"] = True
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return request_bytes(self.address, "POST", PATHS[self.endpoint], orjson.dumps(body), self.key)


def address_of(url: str) -> Address:
    """Where `http://127.0.0.1:8080` is; a `/v1` at the end is understood.

    Raises:
        UsageError: it is no address of a server.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError("the address of the server cannot be read", str(error)) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UsageError("this is no address of a server", hint="give one such as http://127.0.0.1:8080")
    base = parts.path.rstrip("/").removesuffix("/v1")
    return Address(parts.hostname, port, base, parts.scheme == "https")


def model_of(address: Address, key: str) -> str:
    """The first model that the server lists.

    Raises:
        SourceError: it does not answer.
        NotFound: it lists none.
    """
    listed = answer_to(address, request_bytes(address, "GET", "/v1/models", key=key))
    models = listed.get("data")
    names = [one.get("id") for one in models or () if isinstance(one, dict)]
    if not names or not isinstance(names[0], str):
        raise NotFound("the server lists no model", hint="name it with --model")
    return names[0]


def answer_to(address: Address, request: bytes) -> dict[str, Any]:
    """The JSON object that the server answers with.

    Raises:
        SourceError: it does not answer, or with something else.
    """
    reply = Reply()
    try:
        asyncio.run(asyncio.wait_for(exchange(address, request, reply), PATIENCE_S))
    except TimeoutError:
        reply.broken = f"no answer within {PATIENCE_S:.0f} s"
    if reply.broken:
        raise SourceError(f"{address.host}:{address.port} does not answer", reply.broken)
    try:
        answer = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        answer = None
    if reply.status != 200 or not isinstance(answer, dict):
        raise SourceError(
            f"{address.host}:{address.port} refuses the request", said(answer), status=reply.status
        )
    return answer


def said(answer: Any) -> str:
    """What an answer in place of one that was hoped for says, at most a line of it."""
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return message.partition("\n")[0][:200] if isinstance(message, str) else ""
