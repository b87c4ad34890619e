"""A second model's guesses: the answers stay, whatever it says, and its memory is paid for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.errors import DoesNotFit, NotFound, UsageError
from apportion.core.units import MiB
from apportion.engine import LLM, SamplingParams
from apportion.engine.assembly import Serving
from apportion.engine.speculation.ways import WAYS
from apportion.engine.speculation.ways.draft import check_vocabularies

GREEDY = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
HOT = SamplingParams(temperature=1.2, top_k=0, top_p=1, min_p=0, seed=9, max_tokens=40, ignore_eos=True)
PROMPTS = ["the rain in spain", "once upon a time there was", "x"]


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = [tmp_path_factory.mktemp(name) for name in ("large", "small")]
    return {
        "large": tiny_gguf("llama", folders[0], block_format="q8_0"),
        "same": tiny_gguf("llama", folders[1], block_format="q8_0"),
        "other": tiny_gguf("llama", tmp_path_factory.mktemp("other"), block_format="q8_0", seed=7),
    }


@pytest.fixture(scope="module")
def plain(paths: dict[str, Path]) -> dict[str, list]:
    with LLM(paths["large"], threads=1, concurrency=3) as llm:
        return {
            "greedy": [one.token_ids for one in llm.generate(PROMPTS, GREEDY)],
            "sampled": [one.token_ids for one in llm.generate(PROMPTS, HOT)],
        }


@pytest.mark.parametrize("draft", ["same", "other"])
def test_answers_stay_whatever_is_guessed(paths: dict[str, Path], plain: dict[str, list], draft: str) -> None:
    with LLM(paths["large"], threads=1, concurrency=3, speculate=f"draft:{paths[draft]}") as llm:
        assert [one.token_ids for one in llm.generate(PROMPTS, GREEDY)] == plain["greedy"]
        counters = llm.engine.counters
        assert counters.drafted_tokens > 0
        if draft == "same":  # what it would say itself
            assert counters.accepted_tokens > 0.9 * counters.drafted_tokens
        assert [one.token_ids for one in llm.generate(PROMPTS, HOT)] == plain["sampled"]


def test_caches_come_back_and_are_no_more_than_were_paid_for(paths: dict[str, Path]) -> None:
    with LLM(paths["large"], threads=1, concurrency=2, speculate=f"draft:{paths['same']}") as llm:
        drafts = llm._assembled.guesses
        caches = []
        made, drafts.model.new_cache = drafts.model.new_cache, lambda n: caches.append(made(n)) or caches[-1]
        for _ in range(2):
            llm.generate(PROMPTS, GREEDY)
        assert len(caches) == 2
        assert len(drafts._free) == 2
        assert all(cache.length == 0 for cache in drafts._free)


def test_an_answer_that_goes_back_is_guessed_at_from_there(paths: dict[str, Path]) -> None:
    with LLM(paths["large"], threads=1, speculate=f"draft:{paths['same']}") as llm:
        drafter = llm._assembled.guesses.drafter()
        drafter._length = SimpleNamespace(choose=lambda: 4)
        ids = np.array(llm.tokenizer.encode("the rain in spain"), np.int32)
        first = drafter.propose(ids, 9)
        assert len(first) == 4
        assert drafter.propose(ids[:-2], 9).tolist() != first.tolist()
        assert drafter.propose(ids, 9).tolist() == first.tolist()
        assert len(drafter.propose(ids, 2)) == 2


def test_its_memory_is_part_of_the_budget(paths: dict[str, Path]) -> None:
    way = WAYS.get("draft")
    alone = Serving().beside_nbytes
    beside = Serving(speculate=f"draft:{paths['same']}", concurrency=4).beside_nbytes
    assert alone == 0
    assert beside >= paths["same"].stat().st_size - MiB
    few, many = (way.beside_nbytes(str(paths["same"]), 256, concurrency) for concurrency in (1, 4))
    assert many > few
    with pytest.raises(DoesNotFit) as caught:
        LLM(paths["large"], threads=1, ram=20 * MiB, speculate=f"draft:{paths['same']}")
    with pytest.raises(DoesNotFit) as without:
        LLM(paths["large"], threads=1, ram=20 * MiB)
    assert str(caught.value) != str(without.value)


def test_a_model_of_other_tokens_is_refused() -> None:
    def spoken(name: str, words: list[str]) -> SimpleNamespace:
        return SimpleNamespace(
            name=name, tokenizer=SimpleNamespace(vocab_size=len(words), token_text=words.__getitem__)
        )

    check_vocabularies(spoken("small", ["a", "b"]), spoken("large", ["a", "b"]))
    for words in (["a", "c"], ["a", "b", "c"]):
        with pytest.raises(UsageError, match="vocabularies differ"):
            check_vocabularies(spoken("small", words), spoken("large", ["a", "b"]))


def test_a_draft_that_is_not_there_is_an_error(paths: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        LLM(paths["large"], speculate=f"draft:{tmp_path / 'none.gguf'}")
    with pytest.raises(UsageError):
        LLM(paths["large"], speculate="draft")
