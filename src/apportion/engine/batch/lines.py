"""The lines of a batch: what each asks, and the line that answers it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.core.disk import faults
from apportion.core.errors import ApportionError, BadFile, LimitExceeded, UsageError
from apportion.engine.openai import Ask, answer_body, error_body, read_ask
from apportion.formats.bounded_json import parse_json_bounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apportion.engine.chat_turn import ChatTurn
    from apportion.engine.completion import Completion
    from apportion.text.tokenizer import Tokenizer

MAX_LINE_NBYTES = 32 << 20
MAX_CUSTOM_ID_CHARS = 512
STATUS = {"usage": 400, "limit_exceeded": 400, "context_overflow": 400, "unsupported": 400, "template": 400}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the input.

    Attributes:
        number: from 1.
        id: of the request, by its bytes: the same line has the same id in every run.
        custom_id: its caller's name for it; None where none could be read.
        ask: what it asks, or the error that it is.
    """

    number: int
    id: str
    custom_id: str | None
    ask: Ask | ApportionError


def read_lines(path: Path) -> Iterator[Line]:
    """The lines of a batch file; those without content are left out.

    Nothing that a line holds ends the reading: a bad one comes as its error.

    Raises:
        NotFound, DiskFault: the file cannot be read.
    """
    seen: set[str] = set()
    repeats: dict[bytes, int] = {}
    with faults("read", path), path.open("rb") as file:
        number = 0
        while data := file.readline(MAX_LINE_NBYTES + 1):
            number += 1
            too_long = len(data) > MAX_LINE_NBYTES
            digest = blake2b(data.strip(), digest_size=12)
            while len(data) > MAX_LINE_NBYTES and not data.endswith(b"\n"):
                data = file.readline(MAX_LINE_NBYTES + 1)
                digest.update(data)
            if not too_long and not data.strip():
                continue
            key = digest.digest()
            repeats[key] = repeats.get(key, 0) + 1
            suffix = f"-{repeats[key]}" if repeats[key] > 1 else ""
            line_id = f"batch_req_{key.hex()}{suffix}"
            if too_long:
                error = LimitExceeded("the line is too long", limit=MAX_LINE_NBYTES, line=number)
                yield Line(number, line_id, None, error)
            else:
                yield read_line(number, line_id, data, seen)


def read_line(number: int, line_id: str, data: bytes, seen: set[str]) -> Line:
    """One line; `seen` are the names that lines before it have, and takes up its own."""
    custom_id = None
    try:
        fields = parse_json_bounded(data.strip(), f"line {number}")
        if not isinstance(fields, dict):
            raise BadFile(f"line {number} is not an object")
        custom_id = name_of(fields)
        if custom_id in seen:
            raise UsageError("the custom_id stands on an earlier line already", custom_id=custom_id)
        seen.add(custom_id)
        if fields.get("method", "POST") != "POST":
            raise UsageError("the method of a request is POST", method=repr(fields["method"])[:64])
        return Line(number, line_id, custom_id, read_ask(fields.get("url", ""), fields.get("body")))
    except ApportionError as error:
        error.numbers.setdefault("line", number)
        return Line(number, line_id, custom_id, error)


def name_of(fields: dict[str, Any]) -> str:
    name = fields.get("custom_id")
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_CUSTOM_ID_CHARS:
        raise UsageError("a request has a custom_id", f"a text of 1 to {MAX_CUSTOM_ID_CHARS} characters")
    return name


def answered(
    line: Line,
    answers: Sequence[Completion],
    model: str,
    created: int,
    tokenizer: Tokenizer,
    turn: ChatTurn | None,
) -> dict[str, Any]:
    """The line that answers a request.

    Args:
        answers: of each prompt in turn as many as there are choices.
        created: seconds since 1970.
        turn: of a chat: how its answers are read.
    """
    assert isinstance(line.ask, Ask)
    answer_id = line.id.replace("batch_req_", "chatcmpl-" if line.ask.chat is not None else "cmpl-")
    body = answer_body(
        line.ask.endpoint,
        answers,
        len(answers) // line.ask.num_choices,
        answer_id=answer_id,
        model=model,
        created=created,
        tokenizer=tokenizer,
        turn=turn,
    )
    return envelope(line, 200, body, None)


def refused(line: Line, error: ApportionError) -> dict[str, Any]:
    """The line that says why a request has no answer."""
    described = error_body(error)
    brief = {"code": described["code"], "message": described["message"]}
    return envelope(line, STATUS.get(error.code, 500), {"error": described}, brief)


def envelope(line: Line, status: int, body: dict[str, Any], error: dict[str, Any] | None) -> dict[str, Any]:
    response = {"status_code": status, "request_id": line.id.replace("batch_", ""), "body": body}
    return {"id": line.id, "custom_id": line.custom_id, "response": response, "error": error}
