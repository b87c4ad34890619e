"""The child process in which a specification is compiled for the first time, over a vocabulary of bytes.

Some that are hostile, or only large, make the compiler run out of its stack, which ends the process that it
runs in: this one. It is started as a script by `check`, and answers one JSON object with another. What our
own process compiles afterwards it compiles within the same `limits`.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, cast

EOS = 256
# An answer's automaton takes up to 2 kB a state. What a step's mask may cost is bounded by fuel, some 15 ms.
MAX_LEXER_STATES = 16_384
# White space between the parts of JSON is the model's choice, but bounded: small models may never stop.
JSON_SPACE = r"[ \n\r\t]{0,32}"


def limits() -> Any:
    """Bounds of what one grammar may cost."""
    import llguidance

    return llguidance.LLParserLimits(
        max_lexer_states=MAX_LEXER_STATES,
        precompute_large_lexemes=False,  # which would take as long as the vocabulary is large
        verbose_errors=False,
    )


def grammar_of(kind: str, text: str) -> str:
    """A specification in llguidance's own words.

    Raises:
        ValueError: it is no such specification; more errors show when it is compiled.
    """
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import GbnfToLarkError, any_to_lark

    if kind == "json_schema":
        return LLMatcher.grammar_from_json_schema(text, overrides={"whitespace_pattern": JSON_SPACE})
    if kind == "regex":
        return LLMatcher.grammar_from_regex(text)
    try:
        return LLMatcher.grammar_from_lark(any_to_lark(text))
    except GbnfToLarkError as error:
        raise ValueError(str(error)) from None


def behind(before: str, grammar: str) -> str:
    """A grammar, in llguidance's own words, behind what rules in Lark call `before`."""
    inner = json.loads(grammar)["grammars"] if grammar.startswith("{") else [{"lark_grammar": grammar}]
    outer = {"lark_grammar": f"start: before @form\n{before}"}
    return json.dumps({"grammars": [outer, {**inner[0], "name": "form"}, *inner[1:]]})


def with_own_tokens(grammar: str) -> str:
    """The same grammar for a vocabulary in which nothing but its end is no text: what stands for the numbers
    of tokens beyond it is that.
    """
    return re.sub(r"<\[(\d+)\]>", lambda found: f"<[{min(int(found[1]), EOS)}]>", grammar)


class Bytes:
    """A vocabulary of the 256 bytes and an end, as llguidance wants it."""

    tokens = [*(bytes([value]) for value in range(256)), b"<eos>"]  # noqa: RUF012  # only read
    special_token_ids = [EOS]  # noqa: RUF012
    eos_token_id = EOS
    bos_token_id = None
    is_tokenizer_wrapper = True

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


def answer(vocabulary: Any, request: dict[str, str]) -> dict[str, str]:
    """`grammar`, in llguidance's words, or `error`."""
    from llguidance import LLMatcher

    try:
        grammar = grammar_of(request["kind"], request["text"])
        if before := request.get("before"):
            grammar = behind(before, grammar)
    except (ValueError, RecursionError) as error:
        return {"error": str(error)}
    matcher = LLMatcher(vocabulary, with_own_tokens(grammar), log_level=0, limits=limits())
    if not matcher.is_error():
        matcher.compute_bitmask()  # fails where nothing can begin
    if matcher.is_error():
        return {"error": matcher.get_error()}
    return {"grammar": grammar}


def main(memory_nbytes: int, cpu_s: float, stack_nbytes: int) -> None:
    """Answer requests until the pipe closes."""
    from llguidance import LLTokenizer

    from apportion.core.child_side import serve

    vocabulary = LLTokenizer(cast(Any, Bytes()), n_vocab=EOS + 1, eos_token=[EOS], slices=[])
    answer(vocabulary, {"kind": "grammar", "text": 'start: "a"'})  # loads what loads only when first needed

    def reply(data: bytes) -> bytes:
        return json.dumps(answer(vocabulary, json.loads(data))).encode()

    serve(reply, memory_nbytes, cpu_s, stack_nbytes)


if __name__ == "__main__":
    sys.path[:0] = sys.argv[4:]
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
