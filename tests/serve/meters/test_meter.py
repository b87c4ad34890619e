from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tests.engine.scripted import make_request
from tests.models.tiny import tiny_gguf

from apportion import LLM, SamplingParams
from apportion.serve.answer import Answer, Label
from apportion.serve.meters import Meters

PROMPT = np.arange(40).tolist()
ASK = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)


def ask(meters: Meters, llm: LLM, model: str = "tiny") -> Answer:
    """An answer as the pump begins, runs and ends it."""
    request = llm.request(np.array(PROMPT, np.int32), ASK)
    answer = Answer(llm, [request], lambda answer: None, Label("an-id", model, ""))
    meters.began(answer)
    llm.run([request])
    meters.ended(answer)
    return answer


def test_a_models_steps_and_answers_are_measured(tmp_path: Path) -> None:
    meters = Meters(["tiny", "other"])
    with LLM(tiny_gguf("llama", tmp_path), threads=1) as llm:
        ask(meters, llm)
        sums = meters["tiny"].sums(meters.now())
    assert (sums.prefill_tokens, sums.decode_tokens) == (40, 7)
    assert 0 < sums.decode_s < sums.busy_s < 10
    assert meters["tiny"].finished.histograms["output_tokens"].total == 8
    assert meters["tiny"].minute is not None
    assert meters["tiny"].minute.gap_s.num_values == 7
    assert meters["other"].sums(meters.now()).busy_s == 0


def test_bytes_that_stream_are_counted(tmp_path: Path) -> None:
    path, meters = tiny_gguf("olmoe", tmp_path, block_format="q8_0"), Meters(["tiny"])
    plan = LLM(path, ram="4GiB").plan
    assert plan is not None
    with LLM(path, plan=replace(plan, expert_slots=(2, 2, 2)), threads=1) as llm:
        ask(meters, llm)
        assert llm.residency is not None
        assert meters["tiny"].sums(meters.now()).nbytes_read == llm.residency.reader.stats().nbytes_read > 0


def test_a_model_that_was_unloaded_is_let_go_and_its_figures_stay(tmp_path: Path) -> None:
    path, meters = tiny_gguf("llama", tmp_path), Meters(["tiny"])
    llm = LLM(path, threads=1)
    ask(meters, llm)
    gone = weakref.ref(llm)
    llm.close()
    del llm
    gc.collect()
    assert gone() is None
    assert meters["tiny"].sums(meters.now()).decode_tokens == 7
    with LLM(path, threads=1) as again:
        ask(meters, again)
    assert meters["tiny"].finished.histograms["ttft_s"].num_values == 2


def test_models_that_a_server_does_not_know_make_no_meters(tmp_path: Path) -> None:
    meters = Meters(["tiny"])
    answer = Answer(SimpleNamespace(), [make_request([1], 2)], lambda answer: None, Label("an-id", "what"))  # type: ignore[arg-type]
    meters.began(answer)
    meters.ended(answer)
    assert list(meters.by_model) == ["tiny"]


def test_calls_that_could_not_be_read_are_counted_by_model() -> None:
    meters = Meters(["tiny"])
    answer = Answer(SimpleNamespace(), [make_request([1], 2)], lambda answer: None, Label("an-id", "tiny"))  # type: ignore[arg-type]
    meters.mismatched(answer)
    assert meters.mismatches == {"tiny": 1}
