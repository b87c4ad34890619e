"""The facade over a scripted model: prompts, chats, streams, limits, cancellation, prefix reuse."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from apportion.core.errors import ContextOverflow, Unsupported, UsageError
from apportion.engine import SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=12)


def test_text_is_continued(make_llm) -> None:
    done = make_llm().generate("hello", GREEDY)
    assert len(done.text) == 12
    assert (done.prompt_tokens, done.output_tokens, done.finish_reason) == (5, 12, "length")
    assert bytes(done.token_ids).decode() == done.text


def test_token_ids_continue_as_their_text_does(make_llm) -> None:
    llm = make_llm()
    assert llm.generate(list(b"hello"), GREEDY).text == llm.generate("hello", GREEDY).text
    assert llm.generate(np.array([104, 105]), GREEDY).text == llm.generate("hi", GREEDY).text


def test_several_prompts_give_as_many_completions(make_llm) -> None:
    llm = make_llm()
    first, second = llm.generate(["one", list(b"two")], GREEDY)
    assert (first.text, second.text) == (llm.generate("one", GREEDY).text, llm.generate("two", GREEDY).text)


def test_a_stream_adds_up_to_the_completion(make_llm) -> None:
    llm = make_llm()
    stream = llm.stream("hello", GREEDY)
    deltas = list(stream)
    assert (
        "".join(delta.text for delta in deltas)
        == stream.completion.text
        == llm.generate("hello", GREEDY).text
    )
    assert [delta.finish_reason for delta in deltas] == [None] * 11 + ["length"]
    assert tuple(delta.token_id for delta in deltas) == stream.completion.token_ids


def test_the_end_of_generation_token_ends_and_is_no_text(make_llm, saying) -> None:
    done = make_llm(saying("done")).generate("x")
    assert (done.text, done.finish_reason, done.output_tokens) == ("done", "stop", 4)


def test_ignore_eos_gives_exactly_max_tokens(make_llm, saying) -> None:
    done = make_llm(saying("no")).generate("x", SamplingParams(max_tokens=9, ignore_eos=True))
    assert (done.output_tokens, done.finish_reason) == (9, "length")


def test_a_stop_string_across_tokens_ends_the_answer_before_it(make_llm, saying) -> None:
    llm = make_llm(saying("abc STOP def"))
    deltas = list(llm.stream("x", SamplingParams(stop=["STOP"])))
    assert "".join(delta.text for delta in deltas) == "abc "
    assert deltas[-1].finish_reason == "stop"


def test_text_held_back_for_a_stop_string_is_given_at_the_end(make_llm, saying) -> None:
    assert make_llm(saying("abc ST")).generate("x", SamplingParams(stop=["STOP"])).text == "abc ST"
    limited = SamplingParams(stop=["STOP"], max_tokens=6)
    assert make_llm(saying("abc STxx")).generate("x", limited).text == "abc ST"


def test_characters_of_several_tokens_come_whole(make_llm, saying) -> None:
    deltas = [delta.text for delta in make_llm(saying("aé€😀")).stream("x")]
    assert "".join(deltas) == "aé€😀"
    assert all("�" not in delta for delta in deltas)


def test_half_a_character_at_the_end_is_marked_and_not_lost(make_llm, saying) -> None:
    assert make_llm(saying("a😀")).generate("x", SamplingParams(max_tokens=3)).text == "a�"


def test_a_context_that_cannot_hold_prompt_and_answer_is_refused_with_the_numbers(make_llm) -> None:
    with pytest.raises(ContextOverflow) as caught:
        make_llm(ctx=16).generate("0123456789", SamplingParams(max_tokens=7))
    assert caught.value.numbers == {"prompt_tokens": 10, "max_tokens": 7, "ctx": 16}
    with pytest.raises(ContextOverflow):
        make_llm(ctx=16).generate("x" * 16)


def test_without_max_tokens_the_answer_fills_the_context_and_no_more(make_llm) -> None:
    done = make_llm(ctx=16).generate("0123456789")
    assert (done.output_tokens, done.finish_reason) == (6, "length")


@pytest.mark.parametrize("prompt", ["", [], [300], [-1], [0, 258]])
def test_prompts_that_make_no_sense_are_refused(make_llm, prompt: object) -> None:
    with pytest.raises(UsageError):
        make_llm().generate(prompt)


@pytest.mark.parametrize("options", [{"ctx": 0}, {"ctx": 5000}])
def test_a_context_beyond_the_models_is_refused(make_llm, options: dict) -> None:
    with pytest.raises(UsageError, match="ctx"):
        make_llm(**options)


def test_bos_is_added_once(make_llm) -> None:
    seen: list[list[int]] = []

    def spy(context: list[int]) -> int:
        seen.append(list(context))
        return 65

    llm = make_llm(spy, adds_bos=True)
    llm.generate("a", SamplingParams(max_tokens=1))
    llm.generate([257, 98], SamplingParams(max_tokens=1))
    assert seen == [[257, 97], [257, 98]]


def test_a_chat_is_what_the_template_writes(make_llm) -> None:
    llm = make_llm()
    messages = [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]
    assert llm.chat(messages, GREEDY).text == llm.generate("[system]be\n[user]hi\n[assistant]", GREEDY).text


def test_a_model_without_template_says_so_when_asked_to_chat(make_llm) -> None:
    with pytest.raises(Unsupported, match="no chat template"):
        make_llm(template=None).chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("messages", [[], ["hi"], [{"content": "hi"}], [{"role": 3, "content": "hi"}]])
def test_malformed_messages_are_refused(make_llm, messages: list) -> None:
    with pytest.raises(UsageError):
        make_llm().chat(messages)


def test_what_the_checkpoint_recommends_is_taken_where_the_request_is_silent(make_llm) -> None:
    llm = make_llm(recommended=SamplingParams(temperature=0))
    runs = {llm.generate("x", SamplingParams(max_tokens=5, seed=seed)).text for seed in range(3)}
    assert len(runs) == 1


def test_the_seed_that_was_drawn_repeats_the_answer(make_llm) -> None:
    llm = make_llm(lambda context: 97)
    hot = SamplingParams(temperature=50.0, top_k=0, top_p=1, min_p=0, max_tokens=8)
    first = llm.generate("x", hot)
    again = llm.generate(
        "x", SamplingParams(temperature=50.0, top_k=0, top_p=1, min_p=0, max_tokens=8, seed=first.seed)
    )
    assert first.token_ids == again.token_ids


def test_logprobs_stand_beside_every_token(make_llm) -> None:
    done = make_llm().generate("x", SamplingParams(max_tokens=3, logprobs=2))
    assert done.logprobs is not None
    assert [one.chosen.token_id for one in done.logprobs] == list(done.token_ids)
    assert all(len(one.top) == 2 and one.top[0].token_id == one.chosen.token_id for one in done.logprobs)
    assert make_llm().generate("x", GREEDY).logprobs is None


def test_a_long_prompt_is_read_in_chunks_and_progress_is_told(make_llm) -> None:
    told: list[tuple[str, int, int]] = []
    llm = make_llm(on_progress=lambda *event: told.append(event))
    llm.generate("p" * 1200, SamplingParams(max_tokens=2))
    assert llm.engine._executor.counts == [512, 512, 176, 1]
    assert told == [("prefill", done, 1200) for done in (0, 512, 1024, 1200)]


def test_a_second_call_computes_only_what_is_new(make_llm) -> None:
    llm = make_llm()
    first = llm.generate("one two three", GREEDY)
    llm.engine._executor.runs.clear()
    second = llm.generate("one two three" + first.text + " four", SamplingParams(max_tokens=1))
    # Eleven of the answer's twelve tokens went through the model; the last was only chosen.
    assert llm.engine._executor.counts == [1 + 5]
    assert second.cached_tokens == 13 + 11
    assert (
        second.text
        == make_llm().generate("one two three" + first.text + " four", SamplingParams(max_tokens=1)).text
    )


def test_a_prompt_that_branches_off_keeps_the_common_prefix(make_llm) -> None:
    llm = make_llm()
    llm.generate("shared AAAA", GREEDY)
    llm.engine._executor.runs.clear()
    branched = llm.generate("shared BB", GREEDY)
    assert llm.engine._executor.counts[0] == 9 - 4  # of seven tokens in common, one block of four
    assert branched.text == make_llm().generate("shared BB", GREEDY).text


def test_the_same_prompt_again_computes_one_token_and_says_the_same(make_llm) -> None:
    llm = make_llm()
    first = llm.generate("again", GREEDY)
    llm.engine._executor.runs.clear()
    assert llm.generate("again", GREEDY).text == first.text
    assert llm.engine._executor.counts[0] == 1


def test_a_prompt_of_whole_blocks_computes_its_last_token_only(make_llm) -> None:
    llm = make_llm()
    first = llm.generate("01234567", GREEDY)
    llm.engine._executor.runs.clear()
    again = llm.generate("01234567", GREEDY)
    assert llm.engine._executor.counts[0] == 1
    assert (again.text, again.cached_tokens) == (first.text, 7)
    # What was found is as it was: the copy alone was written to.
    assert (
        llm.generate("01234567" + first.text, GREEDY).text
        == make_llm().generate("01234567" + first.text, GREEDY).text
    )


def test_a_closed_stream_is_cancelled_and_the_llm_goes_on(make_llm) -> None:
    llm = make_llm()
    whole = llm.generate("hello", GREEDY)
    with llm.stream("hello", GREEDY) as stream:
        parts = [next(stream), next(stream)]
    assert stream.completion.finish_reason == "cancelled"
    assert stream.completion.text == "".join(part.text for part in parts) == whole.text[:2]
    assert list(stream) == []
    assert llm.generate("hello", GREEDY).text == whole.text


def test_a_finished_stream_stays_finished_when_closed(make_llm, saying) -> None:
    stream = make_llm(saying("ok")).stream("x")
    list(stream)
    stream.close()
    assert stream.completion.finish_reason == "stop"


def test_ctrl_c_inside_a_pass_leaves_the_llm_and_even_the_stream_usable(make_llm) -> None:
    llm = make_llm()
    whole = llm.generate("hello there", GREEDY).text
    stream = llm.stream("hello you", GREEDY)
    llm.engine._executor.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    assert llm.generate("hello there", GREEDY).text == whole
    assert "".join(delta.text for delta in stream) == make_llm().generate("hello you", GREEDY).text


def test_two_streams_that_alternate_do_not_disturb_each_other(make_llm) -> None:
    llm = make_llm()
    a, b = llm.stream("first", GREEDY), llm.stream("second", GREEDY)
    for _ in range(12):
        next(a), next(b)
    assert a.completion.text == make_llm().generate("first", GREEDY).text
    assert b.completion.text == make_llm().generate("second", GREEDY).text


def test_calls_from_several_threads_do_not_disturb_each_other(make_llm) -> None:
    llm, texts = make_llm(), {}

    def ask(prompt: str) -> None:
        texts[prompt] = llm.generate(prompt, GREEDY).text

    threads = [threading.Thread(target=ask, args=(f"prompt {n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == {prompt: make_llm().generate(prompt, GREEDY).text for prompt in texts}


def test_timings_add_up(make_llm) -> None:
    done = make_llm().generate("hello", GREEDY)
    assert done.timings.ttft_s >= done.timings.prefill_s > 0
    assert done.timings.decode_tok_s == pytest.approx(11 / done.timings.decode_s)


def test_what_the_caller_does_between_steps_is_not_decode_time(make_llm) -> None:
    stream = make_llm().stream("hello", GREEDY)
    for _ in stream:
        time.sleep(0.01)
    assert stream.completion.timings.decode_s < 0.1


def test_a_completion_is_one_flat_json_object(make_llm) -> None:
    import json

    fields = json.loads(json.dumps(make_llm().generate("hello", GREEDY).to_dict()))
    assert {
        "text",
        "prompt_tokens",
        "output_tokens",
        "prefill_tok_s",
        "decode_tok_s",
        "finish_reason",
    } <= set(fields)
