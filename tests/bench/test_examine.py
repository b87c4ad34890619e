from __future__ import annotations

from pathlib import Path

import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench.examine import examine
from apportion.core.errors import BadFile, NotFound
from apportion.core.settings import override
from apportion.kernels import available_isas


def test_a_model_is_examined_from_its_headers(tmp_path: Path) -> None:
    model = examine(str(tiny_gguf("olmoe", tmp_path, block_format="q8_0"))).model
    assert model is not None
    assert model.has_experts
    assert not model.packed
    assert (model.why_not, model.kept_as) == ((), ())
    assert 0 < model.nbytes < model.smallest_budget
    assert model.file_system.device


def test_what_cannot_stream_is_told(tmp_path: Path) -> None:
    model = examine(str(tiny_gguf("llama", tmp_path, block_format="q8_1"))).model
    assert model is not None
    assert model.why_not == ("q8_1 is kept in memory as q8_0",)
    assert model.kept_as == (), "that takes no more room"


def test_a_machine_is_examined_without_a_model() -> None:
    facts = examine()
    assert facts.model is None
    assert facts.isa == facts.isas[0] == available_isas()[0]
    assert facts.profile is not None or facts.profile_problem


def test_a_chosen_instruction_set_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    slowest = available_isas()[-1]
    monkeypatch.setenv("APPORTION_ISA", slowest)
    assert (examine().isa, examine().isa_place) == (slowest, "APPORTION_ISA")
    with override(isa=slowest):
        assert examine().isa_place == "--isa"


def test_what_is_no_model_here_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadFile):
        examine(str(tmp_path / "no.gguf"))
    with pytest.raises(NotFound):
        examine(str(tmp_path / "nothing.gguf"))
