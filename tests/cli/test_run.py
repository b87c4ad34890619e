"""`apportion run`: text on stdout, the rest on stderr, one object with --json."""

from __future__ import annotations

import io
import json
import re

import pytest


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    def give(data: bytes) -> None:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))

    return give


def test_the_answer_goes_to_stdout_and_the_closing_line_to_stderr(apportion, tiny_path) -> None:
    outcome = apportion("run", tiny_path, "hello", "--max-tokens", 8, "--temperature", 0)
    assert outcome.status == 0
    assert len(outcome.out) > 1
    assert "tok/s" not in outcome.out
    (line,) = outcome.err.splitlines()
    assert line.startswith("prompt ")
    assert "answer 8 tokens" in line
    assert line.count("tok/s") == 2


def test_json_is_one_object_with_the_documented_keys(apportion, tiny_path) -> None:
    outcome = apportion("run", tiny_path, "hello", "--max-tokens", 8, "--temperature", 0, "--json")
    found = outcome.object
    assert {
        "text",
        "prompt_tokens",
        "output_tokens",
        "prefill_tok_s",
        "decode_tok_s",
        "peak_rss_bytes",
    } <= set(found)
    assert (found["model"], found["output_tokens"], found["finish_reason"]) == ("llama", 8, "length")
    assert found["prefill_tok_s"] > 0
    assert found["decode_tok_s"] > 0
    assert found["peak_rss_bytes"] > 10_000_000
    assert outcome.err == ""


def test_greedy_text_is_the_same_at_any_number_of_threads_and_from_run_to_run(apportion, tiny_path) -> None:
    texts = {
        apportion("run", tiny_path, "once upon", "-n", 40, "-t", 0, "--threads", threads, "--json").object[
            "text"
        ]
        for threads in (1, 2, 1, 2)
    }
    assert len(texts) == 1


def test_a_seed_repeats_the_answer(apportion, tiny_path) -> None:
    def text(seed: int) -> str:
        return apportion("run", tiny_path, "x", "-n", 20, "-t", 5, "--seed", seed, "--json").object["text"]

    assert text(1) == text(1)
    assert text(1) != text(2)


@pytest.mark.parametrize("words", [(), ("-",)])
def test_the_prompt_comes_from_standard_input(apportion, tiny_path, stdin, words: tuple[str, ...]) -> None:
    stdin(b"hello\n")
    piped = apportion("run", tiny_path, *words, "-n", 4, "-t", 0, "--json").object
    given = apportion("run", tiny_path, "hello", "-n", 4, "-t", 0, "--json").object
    assert (piped["text"], piped["prompt_tokens"]) == (given["text"], given["prompt_tokens"])


def test_input_that_is_no_text_is_refused(apportion, tiny_path, stdin) -> None:
    stdin(b"\xff\xfe")
    outcome = apportion("run", tiny_path)
    assert outcome.status == 2
    assert "not UTF-8" in outcome.err


def test_the_chat_template_is_applied_unless_raw(apportion, tiny_path) -> None:
    chat = apportion("run", tiny_path, "hello", "-n", 1, "--json").object
    raw = apportion("run", tiny_path, "hello", "-n", 1, "--raw", "--json").object
    system = apportion("run", tiny_path, "hello", "-n", 1, "--system", "be brief", "--json").object
    assert raw["prompt_tokens"] < chat["prompt_tokens"] < system["prompt_tokens"]


def test_raw_and_system_exclude_each_other(apportion, tiny_path) -> None:
    assert apportion("run", tiny_path, "hi", "--raw", "--system", "x").status == 2


def test_sampling_flags_reach_the_sampler(apportion, tiny_path) -> None:
    forced = apportion(
        "run", tiny_path, "x", "-n", 3, "-t", 0, "--logit-bias", "65=1000", "--logprobs", 2, "--json"
    )
    assert forced.object["text"] == "AAA"
    assert [len(one["top"]) for one in forced.object["logprobs"]] == [2, 2, 2]
    stopped = apportion(
        "run", tiny_path, "x", "-t", 0, "--logit-bias", "65=1000", "--stop", "AA", "--json"
    ).object
    assert (stopped["text"], stopped["finish_reason"]) == ("", "stop")


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--temperature", "-1"], "temperature"),
        (["--logit-bias", "A"], "--logit-bias"),
        (["--logit-bias", "999999=1"], "logit_bias"),
        (["--top-p", "7"], "top_p"),
        (["--threads", "0"], "--threads"),
        (["--ctx", "100000"], "ctx"),
    ],
)
def test_a_wrong_flag_is_an_error_of_usage_that_names_it(apportion, tiny_path, flags, word) -> None:
    outcome = apportion("run", tiny_path, "x", *flags)
    assert outcome.status == 2
    assert word in outcome.err
    assert "Traceback" not in outcome.err


def test_a_prompt_beyond_the_context_is_refused_with_the_numbers(apportion, tiny_path) -> None:
    outcome = apportion("run", tiny_path, "x" * 300, "--json")
    assert outcome.status == 1
    error = outcome.object["error"]
    assert error["code"] == "context_overflow"
    assert error["numbers"]["prompt_tokens"] > error["numbers"]["ctx"] == 256


def test_a_model_that_is_not_there_is_an_error_with_a_hint(apportion, tmp_path) -> None:
    outcome = apportion("run", tmp_path / "none.gguf", "x")
    assert outcome.status == 1
    assert "hint:" in outcome.err


def test_a_file_that_is_no_model_is_a_bad_file(apportion, tmp_path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00")
    outcome = apportion("run", path, "x", "--json")
    assert outcome.status == 1
    assert outcome.object["error"]["code"] in ("bad_file", "truncated")


@pytest.mark.parametrize("flags", [["--exact"], ["--kv", "f32"], ["--ctx", "128"]])
def test_engine_flags_are_accepted(apportion, tiny_path, flags: list[str]) -> None:
    assert apportion("run", tiny_path, "x", "-n", 2, "--json", *flags).object["output_tokens"] <= 2


def test_ctrl_c_keeps_what_was_said_and_exits_with_130(apportion, tiny_path, monkeypatch) -> None:
    from apportion.engine.stream import Stream

    calls = []
    original = Stream.__next__

    def interrupted(self: Stream):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Stream, "__next__", interrupted)
    outcome = apportion("run", tiny_path, "x", "-t", 0, "--ignore-eos", "--json")
    assert outcome.status == 130
    assert (outcome.object["output_tokens"], outcome.object["finish_reason"]) == (3, "cancelled")


def test_an_answer_is_held_to_a_form(apportion, tiny_path, tmp_path) -> None:
    pytest.importorskip("llguidance", reason="needs llguidance, one of the package's own dependencies")
    schema, grammar = tmp_path / "schema.json", tmp_path / "grammar.lark"
    schema.write_text(
        '{"type": "object", "properties": {"n": {"enum": [1, 22]}}, "required": ["n"], '
        '"additionalProperties": false}'
    )
    grammar.write_text('start: "yes" | "no"')
    said = apportion("run", tiny_path, "x", "--json-schema", schema, "-n", 200, "--json").object
    assert json.loads(said["text"])["n"] in (1, 22)
    assert apportion("run", tiny_path, "x", "--grammar", grammar, "--json").object["text"] in ("yes", "no")
    assert re.fullmatch(
        "[0-9]{4}", apportion("run", tiny_path, "x", "--regex", "[0-9]{4}", "--json").object["text"]
    )
    assert apportion("run", tiny_path, "x", "--json-object", "--regex", "a").status == 2
    assert apportion("run", tiny_path, "x", "--regex", "(").status == 2
    assert apportion("run", tiny_path, "x", "--json-schema", tmp_path / "none").status == 2


def test_a_codec_that_there_is_not_is_named_with_those_that_there_are(apportion, tiny_path) -> None:
    outcome = apportion("run", tiny_path, "x", "--kv", "q7")
    assert outcome.status == 2
    assert "unknown KV codec 'q7'" in outcome.err
    assert "q8" in outcome.err
