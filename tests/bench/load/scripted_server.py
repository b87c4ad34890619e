"""A server that speaks the OpenAI API, answers as a script says, and remembers when it did what."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is answered.

    Attributes:
        ttft_s, gap_s: what passes before the first word and between two.
        ends: how: whole, `cut` in the middle, `error` as an event, `hangs`, or `silent`: without a word.
        per_write: words that are sent together.
    """

    ttft_s: float = 0.0
    gap_s: float = 0.0
    status: int = 200
    ends: str = "whole"
    counts: bool = True
    per_write: int = 1


@dataclass(slots=True)
class Told:
    """What the server saw and did; times of `time.perf_counter`."""

    body: dict[str, Any]
    headers: str
    came_s: float
    words_s: list[float] = field(default_factory=list)


class ScriptedServer:
    """Listens while it is used as a context; asked for no stream, it only counts words, two tokens each and
    ten more.
    """

    def __init__(self, script: Callable[[int], Script]) -> None:
        self._script = script
        self._number = 0
        self.told: list[Told] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *failure: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._answer, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        server.close()
        with suppress(RuntimeError):
            self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            came_s = perf_counter()
            if head.startswith("GET"):
                self._write_whole(writer, {"data": [{"id": "scripted"}]})
            else:
                length = int(head.lower().partition("content-length:")[2].split()[0])
                body = json.loads(await reader.readexactly(length))
                await self._answer_ask(body, head, came_s, writer)
            await writer.drain()
        writer.close()

    async def _answer_ask(
        self, body: dict[str, Any], head: str, came_s: float, writer: asyncio.StreamWriter
    ) -> None:
        text = body["messages"][0]["content"] if "messages" in body else body["prompt"]
        prompt_tokens = 10 + 2 * len(text.split())
        if not body.get("stream"):
            self._write_whole(writer, {"usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 1}})
            return
        script, self._number = self._script(self._number), self._number + 1
        told = Told(body, head, came_s)
        self.told.append(told)
        if script.status != 200:
            self._write_whole(writer, {"error": {"message": "no"}}, script.status)
            return
        await self._stream(script, told, prompt_tokens, writer)

    def _write_whole(self, writer: asyncio.StreamWriter, value: object, status: int = 200) -> None:
        data = json.dumps(value).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)

    async def _stream(
        self, script: Script, told: Told, prompt_tokens: int, writer: asyncio.StreamWriter
    ) -> None:
        chat, count = "messages" in told.body, told.body["max_tokens"]
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        if chat:
            self._event(writer, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        await asyncio.sleep(script.ttft_s)
        for word in range(0 if script.ends == "silent" else count):
            if word and word % script.per_write == 0:
                await asyncio.sleep(script.gap_s)
            if word == count // 2 and script.ends == "hangs":
                await asyncio.sleep(60)
            if word == count // 2 and script.ends == "cut":
                return
            if word == count // 2 and script.ends == "error":
                self._event(writer, {"error": {"message": "it broke"}})
                break
            told.words_s.append(perf_counter())
            part = {"delta": {"content": " word"}} if chat else {"text": " word"}
            self._event(writer, {"choices": [part]})
            await writer.drain()
        self._event(writer, {"choices": [{"delta": {}, "text": "", "finish_reason": "length"}]})
        if script.counts:
            usage = {"prompt_tokens": prompt_tokens, "completion_tokens": count}
            details = {"prompt_tokens_details": {"cached_tokens": 3}}
            self._event(writer, {"choices": [], "usage": usage | details})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _event(self, writer: asyncio.StreamWriter, value: object) -> None:
        data = f"data: {json.dumps(value)}\n\n".encode()
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
