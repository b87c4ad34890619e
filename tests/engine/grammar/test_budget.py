"""What holding answers to forms takes is part of a budget, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.claim import Tier
from apportion.core.errors import DoesNotFit
from apportion.core.units import MiB
from apportion.engine import LLM, SamplingParams
from apportion.engine.grammar.vocabulary import FORMS_NBYTES

DIGITS = SamplingParams(regex="[0-9]{3}", temperature=0)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("tiny"), block_format="q8_0")


def test_room_is_set_aside_where_it_was_asked_for(path: Path) -> None:
    with LLM(path, threads=1, ctx=128, ram="4GiB", structured=True) as llm:
        assert len(llm.generate("x", DIGITS).text) == 3
        with_room = llm.plan.nbytes
    with LLM(path, threads=1, ctx=128, ram="4GiB") as llm:
        assert sum(with_room.values()) >= sum(llm.plan.nbytes.values()) + FORMS_NBYTES // 2


def test_where_no_room_is_left_the_answer_is_refused_and_the_model_goes_on(path: Path) -> None:
    with LLM(path, threads=1, ctx=128, ram="4GiB") as llm:
        used = llm.ledger.account().tiers[Tier.RAM].used
        llm.ledger.set_limit(Tier.RAM, used + MiB)
        with pytest.raises(DoesNotFit, match="structured=True"):
            llm.generate("x", DIGITS)
        assert llm.generate("x", SamplingParams(temperature=0, max_tokens=2)).output_tokens == 2
