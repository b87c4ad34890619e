"""The engine over real (tiny, random) models: the same tokens whatever is not meant to change them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.models.test_loading import save_folder, stored_arrays
from tests.models.tiny import tiny_gguf
from tests.text.vocabularies import tokenizer_json, write_folder

from apportion.core.errors import NotFound
from apportion.engine import LLM, SamplingParams
from apportion.engine.loading import generation_config, load, text_parts
from apportion.formats import open_checkpoint
from apportion.formats.side_files import FolderFiles
from apportion.kernels import NativeOps, ReferenceOps

GREEDY = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
PROMPT = "the rain in spain stays mainly in the plain"
FAMILIES = ["llama", "gemma3", "qwen3moe", "gpt_oss", "deepseek2"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    return {name: tiny_gguf(name, folder, block_format="q8_0") for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_do_not_depend_on_threads(paths: dict[str, Path], name: str) -> None:
    answers = {
        LLM(paths[name], threads=threads).generate(PROMPT, GREEDY).token_ids for threads in (1, 2, 3, 1)
    }
    assert len(answers) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_do_not_depend_on_what_the_cache_holds(paths: dict[str, Path], name: str) -> None:
    llm = LLM(paths[name], threads=1)
    fresh = llm.generate(PROMPT, GREEDY)
    assert llm.generate(PROMPT, GREEDY).token_ids == fresh.token_ids
    llm.generate(PROMPT[:17] + " something else entirely", GREEDY)
    branched = llm.generate(PROMPT, GREEDY)
    assert branched.cached_tokens > 0
    assert branched.token_ids == fresh.token_ids


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_tokens_do_not_depend_on_the_chunks_of_prefill(paths: dict[str, Path], name: str) -> None:
    whole = LLM(paths[name], threads=1).generate(PROMPT, GREEDY)
    pieces = LLM(paths[name], threads=1, scheduler="chunked:tokens=7:alone=7").generate(PROMPT, GREEDY)
    assert pieces.token_ids == whole.token_ids


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scheduler", ["fcfs", "chunked:tokens=9", "layered", "priority:give_up=swap"])
def test_greedy_tokens_do_not_depend_on_what_shares_the_steps(
    paths: dict[str, Path], name: str, scheduler: str
) -> None:
    prompts = [PROMPT[n:] + str(n) for n in (0, 3, 5, 8)]
    llm = LLM(paths[name], threads=2, ctx=160, scheduler=scheduler)  # not room for all of them at once
    together = llm.generate(prompts, GREEDY)
    alone = [LLM(paths[name], threads=1, ctx=160).generate(prompt, GREEDY) for prompt in prompts]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


@pytest.mark.parametrize("kv", ["bf16", "q8", "f16*1,q8"])
def test_codecs_that_keep_no_window_give_the_same_tokens_in_company(paths: dict[str, Path], kv: str) -> None:
    prompts = [PROMPT[n:] + str(n) for n in (0, 3, 5, 8)]
    together = LLM(paths["llama"], threads=2, ctx=160, kv=kv).generate(prompts, GREEDY)
    alone = [LLM(paths["llama"], threads=1, ctx=160, kv=kv).generate(prompt, GREEDY) for prompt in prompts]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


@pytest.mark.parametrize("kv", ["q4", "q4_smooth"])
def test_a_window_of_hot_blocks_comes_and_goes_with_its_request(paths: dict[str, Path], kv: str) -> None:
    llm = LLM(paths["llama"], threads=1, ctx=256, kv=kv, concurrency=2)
    executor, prompts = llm.engine._executor, [PROMPT * 3 + str(n) for n in range(3)]
    before = sorted(executor._hot.free)
    long = SamplingParams(temperature=0, max_tokens=110, ignore_eos=True)
    first = llm.generate(prompts, long)
    assert sorted(executor._hot.free) == before
    # The same alone; a prefix that is found again is made of codes, so a fresh model is asked.
    fresh = LLM(paths["llama"], threads=1, ctx=256, kv=kv).generate(prompts[1], long)
    assert first[1].token_ids == fresh.token_ids
    assert llm.generate(prompts[0] + " more", GREEDY).cached_tokens > 0


def test_samples_of_one_prompt_read_it_once_and_differ_by_their_seeds(paths: dict[str, Path]) -> None:
    llm = LLM(paths["llama"], threads=1)
    params = SamplingParams(temperature=3.0, seed=5, max_tokens=8, top_k=0, top_p=1, min_p=0)
    samples = llm.samples(PROMPT, 3, params)
    assert llm.engine.counters.computed_tokens == samples[0].prompt_tokens + 3 * 7
    alone = [LLM(paths["llama"], threads=1).generate(PROMPT, replace(params, seed=5 + n)) for n in range(3)]
    assert [one.token_ids for one in samples] == [one.token_ids for one in alone]
    assert len({one.token_ids for one in samples}) == 3


def test_the_native_path_says_what_the_reference_says(paths: dict[str, Path]) -> None:
    exact = LLM(paths["llama"], threads=1, exact=True, kv="f32").generate(PROMPT, GREEDY)
    reference = LLM(paths["llama"], ops=ReferenceOps(), kv="f32").generate(PROMPT, GREEDY)
    assert exact.token_ids == reference.token_ids


def test_a_chat_goes_on_from_its_cache_to_the_same_answer(paths: dict[str, Path]) -> None:
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    messages = [{"role": "user", "content": "hello, " * 12}]
    llm = LLM(paths["llama"], threads=1)
    messages.append({"role": "assistant", "content": llm.chat(messages, params).text})
    messages.append({"role": "user", "content": "and then?"})
    second = llm.chat(messages, params)
    assert second.cached_tokens > 0
    assert second.token_ids == LLM(paths["llama"], threads=1).chat(messages, params).token_ids


def test_loading_and_reading_the_prompt_tell_their_progress(paths: dict[str, Path]) -> None:
    told: list[tuple[str, int, int]] = []
    LLM(paths["llama"], on_progress=lambda *event: told.append(event)).generate("hi", GREEDY)
    assert list(dict.fromkeys(event[0] for event in told)) == ["load", "prefill"]
    loads = [event for event in told if event[0] == "load"]
    assert loads[-1][1] == loads[-1][2] > 0


def test_an_llm_is_a_context_and_says_its_name(paths: dict[str, Path]) -> None:
    with LLM(paths["llama"]) as llm:
        assert llm.name == "llama"
        assert llm.ctx == llm.model.config.context_length == 256
        assert llm.require_template() is llm.template


def test_a_model_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        LLM(tmp_path / "none.gguf")


def test_the_checkpoint_is_closed_when_loading_fails(
    paths: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    def spy(path: Path):
        opened.append(open_checkpoint(path))
        monkeypatch.setattr(opened[-1], "close", lambda: opened.append("closed"), raising=False)
        return opened[-1]

    def fail(*_args: object, **_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("apportion.engine.loading.open_checkpoint", spy)
    monkeypatch.setattr("apportion.engine.loading.load_model", fail)
    with pytest.raises(MemoryError):
        load(paths["llama"], NativeOps(threads=1))
    assert opened[-1] == "closed"


def test_recommended_sampling_comes_from_the_checkpoints_metadata(paths: dict[str, Path]) -> None:
    checkpoint = open_checkpoint(paths["llama"])
    metadata = {**checkpoint.metadata, "general.sampling.temp": 0.25}
    stated = SimpleNamespace(kind="gguf", metadata=metadata)
    assert text_parts(stated)[2] == SamplingParams(temperature=0.25)


@pytest.mark.parametrize("content", [None, "nonsense", "[1]", "[" * 100_000])
def test_a_generation_config_that_cannot_be_read_recommends_nothing(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "generation_config.json").write_text(content)
    assert generation_config(FolderFiles(tmp_path)) == {}


def test_a_generation_config_is_read(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 0.6}))
    assert generation_config(FolderFiles(tmp_path)) == {"temperature": 0.6}


def test_a_folder_of_safetensors_answers_with_its_own_tokenizer_template_and_sampling(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model", "llama", stored_arrays("llama"))
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    write_folder(
        folder,
        tokenizer=tokenizer_json(),
        tokenizer_config={"chat_template": template},
        generation_config={"temperature": 0.5, "top_k": 3},
    )
    llm = LLM(folder, threads=1)
    assert llm.loaded.recommended == SamplingParams(temperature=0.5, top_k=3)
    done = llm.chat([{"role": "user", "content": "hello world"}], GREEDY)
    assert done.output_tokens == GREEDY.max_tokens
    assert done.token_ids == llm.generate("hello world", GREEDY).token_ids


def test_a_real_model_says_the_same_at_one_and_two_threads_and_knows_a_capital(smollm2: Path) -> None:
    question = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
    params = SamplingParams(temperature=0, max_tokens=12)
    answers = [LLM(smollm2, threads=threads).chat(question, params) for threads in (1, 2)]
    assert "Paris" in answers[0].text
    assert answers[0].token_ids == answers[1].token_ids
