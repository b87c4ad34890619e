"""From an ask to an HTTP answer: the way that every API's requests take."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from time import time
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from apportion.engine.chat_turn import PLAIN, ChatTurn
from apportion.engine.llm import numbered
from apportion.engine.openai import Ask, turn_of
from apportion.engine.prompts import prompt_ids
from apportion.serve.access import Caller
from apportion.serve.answer import Answer, Batch, Label
from apportion.serve.dialects import Writer
from apportion.serve.dialects.writer import Echo, Frame
from apportion.serve.errors import error_event, error_response, json_response, log_failure
from apportion.serve.pipe import Pipe, pipe_of
from apportion.serve.site import Site
from apportion.serve.sse import comment, written
from apportion.text.answer_parts import AnswerParts, Mismatch, Part

if TYPE_CHECKING:
    from apportion.engine import LLM
    from apportion.engine.request import Request
    from apportion.text.tokenizer import Tokenizer

logger = logging.getLogger("apportion.serve")
MAX_WARNINGS = 8  # that a header tells


class MakeWriter(Protocol):
    """Makes the writer of one answer."""

    def __call__(self, frame: Frame, num_choices: int) -> Writer: ...


async def answered(site: Site, caller: Caller, ask: Ask, make_writer: MakeWriter, prefix: str) -> Response:
    """An answer, streamed or in one piece.

    Args:
        prefix: of the answer's id.

    Raises what loading the model, reading the ask and submitting it raise.
    """
    async with AsyncExitStack() as stack:
        llm = await stack.enter_async_context(site.models.use(ask.model))
        loop = asyncio.get_running_loop()
        requests, turn = await loop.run_in_executor(site.readers, requests_of, llm, ask, caller)
        model = ask.model or site.models.default_name
        label = Label(f"{prefix}{uuid4().hex}", model, caller.name)
        answer = site.pump.submit(llm, requests, label)
        stack.callback(answer.cancel)
        await answer.accepted()
        frame = Frame(
            label.id,
            model,
            int(time()),
            llm.tokenizer,
            max(1, len(ask.prompts)),
            ask.include_usage,
            ask.include_timings,
            sum(request.sequence.num_prompt for request in requests[:: ask.num_choices]),
            partial(echo_of, ask, requests, llm.tokenizer) if ask.echo else None,
        )
        parts = [parts_of(turn) for _ in requests]
        reading = Reading(answer, make_writer(frame, len(requests)), parts, site.meters.mismatched)
        reading.keep(stack.pop_all())
    headers = {"X-Apportion-Warnings": "; ".join(ask.warnings[:MAX_WARNINGS])} if ask.warnings else {}
    return EventResponse(reading, headers) if ask.stream else WholeResponse(reading, headers)


def requests_of(llm: LLM, ask: Ask, caller: Caller) -> tuple[list[Request], ChatTurn | None]:
    """The engine's requests for an ask, for each prompt in turn as many as there are choices; and how answers
    are read, where it is a chat.
    """
    turn = None if ask.chat is None else turn_of(llm, ask)
    prompts = [turn.ids] if turn else [prompt_ids(prompt, llm.tokenizer, llm.ctx) for prompt in ask.prompts]
    params = turn.held(ask.params) if turn else ask.params
    requests = []
    for ids in prompts:
        first, *others = [
            llm.request(
                ids,
                numbered(params, place),
                continues=turn is None,
                frame=turn.frame if turn else PLAIN,
                priority=ask.priority,
                tenant=caller.name,
                salt=caller.salt + ask.cache_salt,
            )
            for place in range(ask.num_choices)
        ]
        first.branches = others
        requests += [first, *others]
    return requests, turn


def echo_of(ask: Ask, requests: Sequence[Request], tokenizer: Tokenizer, choice: int) -> Echo:
    """The prompt of a choice, once it was read."""
    request, prompt = requests[choice], ask.prompts[choice // ask.num_choices]
    ids = request.sequence.prompt.tolist()
    observer = request.observer
    logprobs = None if observer is None or ask.params.logprobs is None else observer.logprobs()
    return Echo(prompt if isinstance(prompt, str) else tokenizer.decode(ids), ids, logprobs)


def parts_of(turn: ChatTurn | None) -> AnswerParts:
    """Who tells what an answer's text means."""
    return AnswerParts() if turn is None else turn.parts()


class Reading:
    """An answer being read: what its deltas mean, in an API's words.

    Args:
        on_mismatch: told of each call in it that could not be read.
    """

    def __init__(
        self,
        answer: Answer,
        writer: Writer,
        parts: Sequence[AnswerParts],
        on_mismatch: Callable[[Answer], None],
    ) -> None:
        self.answer = answer
        self.writer = writer
        self._parts = parts
        self._on_mismatch = on_mismatch
        self._stack = AsyncExitStack()

    def keep(self, stack: AsyncExitStack) -> None:
        """What ends with it."""
        self._stack = stack

    async def close(self) -> None:
        self.answer.tell_record()
        await self._stack.aclose()

    async def events(self) -> AsyncIterator[bytes]:
        """The answer on the wire."""
        begun = written(self.writer.begin())
        if begun:
            yield begun
        async for batch in self.answer:
            if not batch:
                done, total = self.answer.progress
                yield comment(f"prefill {done}/{total}" if done < total else "alive")
                continue
            data = self._written(batch)
            if data:
                yield data
        yield written(self.writer.end(self.answer.completions)) + self.writer.end_mark

    def flow_into(self, pipe: Pipe) -> None:
        """Let what comes from now on go straight into the pipe, while it is free."""

        def sink(batch: Batch) -> bool:
            if not pipe.is_free:
                return False
            if data := self._written(batch):
                pipe.write(data)
            return True

        self.answer.sink = sink

    def _written(self, batch: Batch) -> bytes:
        return b"".join(
            written(self.writer.on(choice, delta, self._meaning(choice, delta))) for choice, delta in batch
        )

    async def body(self) -> dict[str, Any]:
        """The answer in one piece."""
        parts: list[list[Part]] = [[] for _ in self._parts]
        async for batch in self.answer:
            for choice, delta in batch:
                parts[choice] += self._meaning(choice, delta)
        return self.writer.body(self.answer.completions, parts)

    def _meaning(self, choice: int, delta: Any) -> list[Part]:
        parts = self._parts[choice].feed(delta.text)
        if delta.finish_reason is not None:
            parts = [*parts, *self._parts[choice].finish()]
        for part in parts:
            if isinstance(part, Mismatch):
                logger.warning("a call in answer %s could not be read: %s", self.answer.label.id, part.why)
                self._on_mismatch(self.answer)
        return parts


class EventResponse(Response):
    """Server-sent events; whoever leaves cancels the answer."""

    media_type = "text/event-stream"

    def __init__(self, reading: Reading, headers: Mapping[str, str]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", **headers})
        del self.headers["content-length"]
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(left(receive, self._reading.answer.cancel))
        pipe = pipe_of(scope)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for data in self._reading.events():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
                    if pipe is not None:  # whoever looks at messages has seen a first one
                        self._reading.flow_into(pipe)
                        pipe = None
            except Exception as error:
                log_failure(error)
                data = written([error_event(error, scope["path"])]) + self._reading.writer.end_mark
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            await self._reading.close()


class WholeResponse(Response):
    """An answer in one piece; whoever leaves cancels it."""

    def __init__(self, reading: Reading, headers: Mapping[str, str]) -> None:
        super().__init__()
        self._reading = reading
        self._more = dict(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = asyncio.create_task(left(receive, self._reading.answer.cancel))
        try:
            try:
                response = json_response(await self._reading.body(), headers=self._more)
            except Exception as error:
                log_failure(error)
                response = error_response(error, scope["path"])
            await response(scope, receive, send)
        finally:
            watch.cancel()
            await self._reading.close()


async def left(receive: Receive, tell: Callable[[], None]) -> None:
    """Wait until the client is gone, and tell."""
    while (await receive())["type"] != "http.disconnect":
        pass
    tell()
