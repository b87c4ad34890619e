"""Coverage-guided fuzzing of chat templates: text, or an error of ours, within the limits, and nothing leaks.

Programs are put together from pieces of attacks. Each is compiled here, where the fuzzer sees which code of
jinja2 it reaches, and rendered in the child process as always.
Run it as a script: `python tests/fuzz/fuzz_template.py -max_total_time=600`.
"""

from __future__ import annotations

import contextlib
import re
import time

import atheris
import plain_imports  # noqa: F401  # before anything of ours

with atheris.instrument_imports(include=["apportion", "jinja2"]):
    from apportion.core.errors import ApportionError
    from apportion.text.chat_template import ChatTemplate
    from apportion.text.template_worker import make_environment

    ENVIRONMENT = make_environment()  # it imports jinja2

from fuzzing import fuzz
from tests.text.template_attacks import DOS, LEAK, PIECES, SSTI

MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
MAX_S = 8.0  # processor time is what is limited; this leaves room for a busy machine


def program(data: bytes) -> str:
    source = atheris.FuzzedDataProvider(data)
    if source.ConsumeIntInRange(0, 3) == 0:
        return str(source.ConsumeUnicodeNoSurrogates(400))
    parts = []
    for _ in range(source.ConsumeIntInRange(1, 12)):
        kind = source.ConsumeIntInRange(0, 9)
        if kind == 0:
            parts.append(SSTI[source.ConsumeIntInRange(0, len(SSTI) - 1)])
        elif kind == 1:
            parts.append(source.ConsumeUnicodeNoSurrogates(6))
        else:
            parts.append(PIECES[source.ConsumeIntInRange(0, len(PIECES) - 1)])
    return "".join(parts)


def one_input(data: bytes) -> None:
    text = program(data)
    with contextlib.suppress(Exception):  # only its coverage is wanted; the child's answer is what counts
        ENVIRONMENT.from_string(text[:4000])
    start = time.monotonic()
    TEMPLATE.source = text
    try:
        result = TEMPLATE.render(MESSAGES)
    except ApportionError:
        result = ""
    assert time.monotonic() - start < MAX_S, text
    assert not re.search(LEAK, result), (text, result[:500])


TEMPLATE = ChatTemplate("")

if __name__ == "__main__":
    fuzz(
        one_input,
        [bytes([kind]) * 64 for kind in range(0, 256, 5)] + [text.encode() for text in DOS[:5]],
        "-timeout=20",
    )
