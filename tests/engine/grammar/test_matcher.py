"""Masks: what they forbid, what they leave as it is, and what random logits say under them."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from tests.engine.conftest import EOG, VOCAB
from tests.engine.grammar.conftest import satisfies

from apportion.core.errors import UsageError
from apportion.engine import SamplingParams
from apportion.engine.grammar import Grammars, Matcher, Spec, spec_of

FORMS = [
    {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 5},
    {"enum": ["red", "green", 3, None, {"x": [1]}]},
    {"type": "string", "minLength": 2, "maxLength": 9},
    {"type": "string", "pattern": "^[a-f]{3}-[0-9]{2}$"},
    {"type": "integer", "minimum": -7, "maximum": 1300},
    {"anyOf": [{"type": "null"}, {"type": "object", "properties": {"b": {"const": "c"}}, "required": ["b"]}]},
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 6},
            "tags": {"type": "array", "maxItems": 3, "items": {"enum": ["x", "y"]}},
            "n": {"type": ["integer", "null"], "minimum": 0, "maximum": 99},
        },
        "required": ["name", "tags"],
        "additionalProperties": False,
    },
]


def allowed(matcher) -> set[int]:
    return set(np.flatnonzero(np.isfinite(matcher.mask(np.zeros(VOCAB, np.float32)))).tolist())


def chatter(rng: np.random.Generator):
    """A model that wants anything, an early end least."""

    def logits() -> np.ndarray:
        row = rng.normal(size=VOCAB).astype(np.float32) * 4
        row[[ord(c) for c in " \n\t\r"]] -= 8
        return row

    return logits


def spoken(grammars: Grammars, spec: Spec, seed: int, most: int = 400) -> str | None:
    """What the largest allowed random logits say; None where they did not come to an end."""
    matcher, logits = grammars.matcher(spec), chatter(np.random.default_rng(seed))
    text = bytearray()
    for _ in range(most):
        if matcher.is_over:
            return text.decode()
        token = int(matcher.mask(logits()).argmax())
        if token == EOG:
            assert matcher.is_complete
            return text.decode()
        matcher.accept(token)
        text.append(token)
    return None


@pytest.mark.parametrize("schema", FORMS, ids=range(len(FORMS)))
def test_whatever_random_logits_say_parses_and_is_of_the_schema(grammars: Grammars, schema: dict) -> None:
    spec = spec_of(SamplingParams(json_schema=schema))
    texts = [spoken(grammars, spec, seed) for seed in range(12)]
    ended = [text for text in texts if text is not None]
    assert len(ended) >= 10
    assert len(set(ended)) > 1
    for text in ended:
        assert satisfies(json.loads(text), schema), text


@pytest.mark.parametrize("regex", [r"[0-9]{4}-[0-9]{2}", "(foo|bar)+baz", r"[^\n]{3,20}", "[a-z]*é?"])
def test_whatever_random_logits_say_matches_the_regular_expression(grammars: Grammars, regex: str) -> None:
    texts = [spoken(grammars, Spec("regex", regex), seed) for seed in range(12)]
    assert any(text is not None for text in texts)
    assert all(re.fullmatch(regex, text) for text in texts if text is not None)


@pytest.mark.parametrize("grammar", ['start: "a"+ ("b" | "c")', 'root ::= "a"+ ("b" | "c")'])
def test_grammars_are_written_as_lark_or_gbnf(grammars: Grammars, grammar: str) -> None:
    texts = {spoken(grammars, Spec("grammar", grammar), seed) for seed in range(8)}
    assert all(re.fullmatch("a+[bc]", text) for text in texts if text is not None)


def test_a_mask_leaves_what_it_allows_bit_for_bit_and_forbids_the_rest(grammars: Grammars) -> None:
    logits = np.random.default_rng(3).normal(size=VOCAB).astype(np.float32)
    masked = grammars.matcher(Spec("regex", "[abc]")).mask(logits)
    places = [ord(c) for c in "abc"]
    assert masked[places].tobytes() == logits[places].tobytes()
    assert np.isneginf(np.delete(masked, places)).all()
    assert np.isfinite(logits).all()


def test_logits_that_are_no_numbers_stay_so(grammars: Grammars) -> None:
    logits = np.full(VOCAB, np.nan, np.float32)
    assert np.isnan(grammars.matcher(Spec("regex", "[abc]")).mask(logits)).all()


def test_an_answer_is_over_with_its_last_token_or_when_its_end_is_chosen(grammars: Grammars) -> None:
    matcher = grammars.matcher(Spec("regex", "ab?"))
    assert (allowed(matcher), matcher.is_complete, matcher.is_over) == ({ord("a")}, False, False)
    matcher.accept(ord("a"))
    assert (allowed(matcher), matcher.is_complete, matcher.is_over) == ({ord("b"), EOG}, True, False)
    matcher.accept(ord("b"))
    assert (matcher.is_complete, matcher.is_over) == (True, True)


def test_special_tokens_are_never_text(grammars: Grammars) -> None:
    assert allowed(grammars.matcher(Spec("regex", r"(?s:.)*"))).isdisjoint({VOCAB - 1})


def test_a_forbidden_token_is_refused(grammars: Grammars) -> None:
    with pytest.raises(UsageError, match="does not continue"):
        grammars.matcher(Spec("regex", "a")).accept(ord("b"))


def test_how_many_of_some_tokens_may_follow_is_told_without_taking_them(grammars: Grammars) -> None:
    matcher = grammars.matcher(Spec("regex", "abc"))
    assert matcher.num_accepted(np.frombuffer(b"abx", np.uint8)) == 2
    assert matcher.num_accepted([]) == 0
    assert allowed(matcher) == {ord("a")}


def test_answers_of_one_grammar_do_not_disturb_each_other(grammars: Grammars) -> None:
    first, second = (grammars.matcher(Spec("regex", "ab|cd")) for _ in range(2))
    first.accept(ord("a"))
    second.accept(ord("c"))
    assert (allowed(first), allowed(second)) == ({ord("b")}, {ord("d")})


def test_masking_a_large_vocabulary_takes_microseconds() -> None:
    class Everything:
        """A state that allows what it finds, so that only the masking is timed."""

        is_error = is_stopped = staticmethod(lambda: False)
        unsafe_compute_mask_ptr = staticmethod(lambda pointer, nbytes: None)

    matcher, logits = Matcher(Everything(), 262_144, 262_144), np.zeros(262_144, np.float32)
    times = []
    for _ in range(50):
        begin = time.thread_time()
        matcher.mask(logits)
        times.append(time.thread_time() - begin)
    assert min(times) < 0.5e-3
