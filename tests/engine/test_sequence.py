"""A sequence under a grammar: what it says, how it ends, what it reports."""

from __future__ import annotations

import json

import numpy as np
import pytest

from apportion.core.errors import LimitExceeded, NotFinite, UsageError
from apportion.engine import SamplingParams

pytest.importorskip("llguidance", reason="needs llguidance, one of the package's own dependencies")

GREEDY = {"temperature": 0, "max_tokens": 200}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]} | {
    "additionalProperties": False
}


def rambling(context: list[int]) -> int:
    """A script that would rather say nothing of what is asked."""
    return ord("~")


def test_an_answer_has_the_form_that_was_asked_for(make_llm) -> None:
    llm = make_llm(rambling)
    done = llm.generate("x", SamplingParams(json_schema=SCHEMA, **GREEDY))
    assert set(json.loads(done.text)) == {"ok"}
    assert done.finish_reason == "stop"
    assert llm.generate("x", SamplingParams(regex="[0-9]{3}", **GREEDY)).text == "000"
    assert llm.generate("x", SamplingParams(grammar='start: "yes" | "no"', **GREEDY)).text in ("yes", "no")
    assert llm.chat([{"role": "user", "content": "x"}], SamplingParams(regex=" ?b", **GREEDY)).text in (
        "b",
        " b",
    )


def test_an_answer_ends_with_the_last_token_that_its_form_allows(make_llm) -> None:
    llm = make_llm(rambling)
    llm.generate("x", SamplingParams(regex="ab", **GREEDY))
    assert llm.engine.counters.steps == 2  # no pass for an end that could not be otherwise


def test_what_the_model_says_by_itself_is_left_as_it_is(make_llm, saying) -> None:
    text = '{"ok": true}'
    assert make_llm(saying(text)).generate("x", SamplingParams(json_schema=SCHEMA, **GREEDY)).text == text
    assert json.loads(make_llm(saying('{"a":1}')).generate("x", SamplingParams(json_object=True)).text) == {
        "a": 1
    }


def test_an_answer_that_is_cut_short_says_so(make_llm) -> None:
    done = make_llm(rambling).generate("x", SamplingParams(regex="[a-z]{50}", temperature=0, max_tokens=5))
    assert (len(done.text), done.finish_reason) == (5, "length")


def test_log_probabilities_stay_the_models_own(make_llm) -> None:
    done = make_llm(rambling).generate("x", SamplingParams(regex="ab", logprobs=1, temperature=0))
    assert done.logprobs is not None
    assert [one.top[0].token_id for one in done.logprobs] == [ord("~")] * 2
    assert all(one.chosen.logprob < -10 for one in done.logprobs)


def test_sampled_answers_keep_their_form_and_repeat_with_their_seed(make_llm) -> None:
    llm = make_llm(rambling)
    hot = {"temperature": 100.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "max_tokens": 40}
    texts = [llm.generate("x", SamplingParams(regex="[a-f]{8}", seed=seed, **hot)).text for seed in (1, 2, 1)]
    assert texts[0] == texts[2] != texts[1]
    assert all(len(text) == 8 and set(text) <= set("abcdef") for text in texts)


def test_when_a_bias_forbids_all_that_the_form_allows_the_error_says_so(make_llm) -> None:
    with pytest.raises(NotFinite, match="every token is forbidden"):
        make_llm().generate("x", SamplingParams(regex="a", logit_bias={97: -np.inf}, temperature=0))


def test_a_form_that_cannot_be_had_is_refused_before_anything_is_computed(make_llm) -> None:
    llm = make_llm()
    with pytest.raises(UsageError, match="nothing can satisfy"):
        llm.stream("x", SamplingParams(json_schema=False))
    assert llm.engine.counters.steps == 0
    assert llm.generate("x", SamplingParams(temperature=0, max_tokens=2)).output_tokens == 2


def test_two_answers_under_one_form_do_not_disturb_each_other(make_llm) -> None:
    llm = make_llm()
    params = SamplingParams(regex="[a-z]{6}", temperature=0)
    first, second = llm.stream("one", params), llm.stream("two", params)
    for _ in range(6):
        next(first), next(second)
    assert first.completion.text == make_llm().generate("one", params).text
    assert second.completion.text == make_llm().generate("two", params).text


def test_a_grammar_that_becomes_too_complex_ends_its_own_answer_alone(make_llm, monkeypatch) -> None:
    llm = make_llm()
    params = SamplingParams(regex="[a-z]{9}", temperature=0)
    broken, other = (
        llm.request(np.frombuffer(text, np.uint8).astype(np.int32), params) for text in (b"x", b"yy")
    )
    masks, mask = [], broken.sequence.grammar.mask

    def failing(logits: np.ndarray) -> np.ndarray:
        masks.append(1)
        if len(masks) == 3:
            raise LimitExceeded("the answer's grammar is too complex here")
        return mask(logits)

    monkeypatch.setattr(broken.sequence.grammar, "mask", failing)
    llm.engine.add(broken)
    llm.engine.add(other)
    llm.engine.finish(broken)
    llm.engine.finish(other)
    assert isinstance(broken.error, LimitExceeded)
    assert len(broken.completion.text) == 2
    assert other.completion.text == make_llm().generate("yy", params).text
    assert llm.generate("x", params).output_tokens == 9


def test_guesses_that_a_form_forbids_are_not_computed(make_llm) -> None:
    class Wild:
        def propose(self, ids: np.ndarray, most: int) -> np.ndarray:
            return np.array([48, 120, 49][:most], np.int32)

        def took(self, proposed: int, accepted: int, seconds: float) -> None:
            assert proposed <= 1

    llm, params = make_llm(), SamplingParams(regex="[0-9]{6}", temperature=0)
    request = llm.request(np.array([120], np.int32), params, drafter=Wild())
    llm.run([request])
    assert request.completion.text == make_llm().generate("x", params).text
    assert llm.engine.counters.drafted_tokens > 0


def test_an_end_that_the_model_chose_has_a_log_probability_where_those_are_asked_for(
    make_llm, saying
) -> None:
    llm = make_llm(saying("ab"))
    done = llm.generate("x", SamplingParams(temperature=0, logprobs=1))
    assert done.logprobs is not None
    assert len(done.logprobs) == len(done.token_ids)
    assert done.end_logprobs is not None
    assert done.end_logprobs.chosen.token_id in llm.tokenizer.eog_ids
    assert llm.generate("x", SamplingParams(temperature=0)).end_logprobs is None
    assert llm.generate("x", SamplingParams(temperature=0, logprobs=1, max_tokens=1)).end_logprobs is None
