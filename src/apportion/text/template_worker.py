"""The child process in which chat templates run: the only module that imports jinja2.

It is started as a script by `template_process`, bounds its own memory, files and processor time, and then
answers requests: one JSON object in, one out. Templates are untrusted programs: besides the sandbox of the
language there is this process.
"""

from __future__ import annotations

import json
import sys
from typing import Any

MAX_OUTPUT_CHARS = 4 << 20
_KEPT_TEMPLATES = 4
_WARM_UP = ("{{ strftime_now('%Y') }}{{ [1] | tojson }}", "{{ missing.x }}", "{% if %}")


class Refused(Exception):
    """The template called raise_exception."""


class TooLong(Exception):
    """The output passed its limit."""


def make_environment() -> Any:
    """Jinja as chat templates expect it: immutable sandbox, block trimming, loop controls, plain JSON."""
    import jinja2.ext
    from jinja2 import nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationTag(jinja2.ext.Extension):
        """`{% generation %}` marks what to train on; in a prompt it only shows its body."""

        tags = {"generation"}  # noqa: RUF012  # jinja2 declares it so

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, jinja2.ext.loopcontrols]
    )
    environment.globals.pop("lipsum", None)  # a generator of filler text: no template needs it
    environment.tests["none"] = _is_none
    environment.globals["raise_exception"] = _raise_exception
    environment.filters["tojson"] = _tojson
    return environment


def _is_none(value: object) -> bool:
    # Some templates ask with `is defined` whether there are tools, others with `is none`: absent is both.
    from jinja2 import Undefined

    return value is None or (isinstance(value, Undefined) and value._undefined_name in ("tools", "documents"))


def _raise_exception(message: object) -> None:
    raise Refused(str(message))


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Unlike Jinja's own filter, nothing is escaped for HTML: the model was trained on plain JSON.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class Renderer:
    """Compiles and renders; keeps the last few compiled templates."""

    def __init__(self) -> None:
        self._environment = make_environment()
        self._compiled: dict[str, Any] = {}

    def render(self, source: str, variables: dict[str, Any], now: list[int]) -> str:
        import datetime

        moment = datetime.datetime(*now)  # type: ignore[arg-type]  # six numbers, from our own side
        self._environment.globals["strftime_now"] = moment.strftime
        out: list[str] = []
        size = 0
        for part in self._template(source).generate(variables):
            size += len(part)
            if size > MAX_OUTPUT_CHARS:
                raise TooLong
            out.append(part)
        return "".join(out)

    def _template(self, source: str) -> Any:
        found = self._compiled.pop(source, None) or self._environment.from_string(source)
        self._compiled[source] = found
        if len(self._compiled) > _KEPT_TEMPLATES:
            del self._compiled[next(iter(self._compiled))]
        return found


def answer(renderer: Renderer, request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request: `text`, or `error` (refused, output, memory, depth, failed), `message`."""
    try:
        return {"text": renderer.render(request["template"], request["variables"], request["now"])}
    except Refused as error:
        return {"error": "refused", "message": str(error)[:2000]}
    except TooLong:
        return {"error": "output", "message": ""}
    except MemoryError:
        return {"error": "memory", "message": ""}
    except RecursionError:
        return {"error": "depth", "message": ""}
    except Exception as error:  # whatever a template provokes is the template's failure
        return {"error": "failed", "message": _describe(error)}


def _describe(error: Exception) -> str:
    line = getattr(error, "lineno", None)
    trace = error.__traceback__
    while line is None and trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    text = f"{type(error).__name__}: {error}"[:1000]
    return f"{text} (template line {line})" if line else text


def reply(renderer: Renderer, data: bytes) -> bytes:
    """The answer to a request as bytes; lone surrogates pass."""
    text = json.dumps(answer(renderer, json.loads(data)), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def main(memory_nbytes: int, cpu_s: float) -> None:
    """Answer requests until the pipe closes."""
    from apportion.core.child_side import serve

    renderer = Renderer()
    for source in _WARM_UP:  # some modules load only when first needed, which needs files
        answer(renderer, {"template": source, "variables": {}, "now": [2000, 1, 1, 0, 0, 0]})
    serve(lambda data: reply(renderer, data), memory_nbytes, cpu_s)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[3:]
    main(int(sys.argv[1]), float(sys.argv[2]))
