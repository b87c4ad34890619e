"""What a packed file consists of, from headers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.compress.packs import folder_of, k_quant_mix
from tests.models.tiny import tiny_gguf

from apportion.compress.sections import Experts, Sections, Table, sections_of
from apportion.formats import open_checkpoint
from apportion.models import config_from_checkpoint


def sections(path: Path, **files: int) -> Sections:
    with open_checkpoint(path) as checkpoint:
        return sections_of(config_from_checkpoint(checkpoint), checkpoint, files)


def test_sections_come_in_the_order_in_which_they_are_read(tmp_path: Path) -> None:
    found = [section.name for section in sections(tiny_gguf("olmoe", tmp_path), tokenizer=5).all]
    assert found[:2] == ["apportion.digests", "apportion.file.tokenizer"]
    matrices = found.index("token_embd.weight")
    assert all("norm" in name for name in found[2:matrices])
    assert found[matrices : matrices + 2] == ["token_embd.weight", "output.weight"]
    layers = [int(name.split(".")[1]) for name in found[matrices + 2 :]]
    assert layers == sorted(layers)
    assert [name for name in found if "exp" in name] == [f"blk.{layer}.experts" for layer in range(3)]
    assert found[-1] == "blk.2.experts"


def test_there_is_a_digest_for_every_unit_and_the_header(tmp_path: Path) -> None:
    found = sections(tiny_gguf("olmoe", tmp_path)).all
    table = found[0]
    assert isinstance(table, Table)
    experts = sum(section.shape[0] for section in found if isinstance(section, Experts))
    others = sum(not isinstance(section, Experts | Table) for section in found)
    assert table.shape == (1 + experts + others, 32)


def test_the_matrices_of_an_expert_may_have_formats_of_their_own(tmp_path: Path) -> None:
    found = sections(k_quant_mix("qwen2moe", tmp_path / "mixed.gguf"))
    experts = [section for section in found.all if isinstance(section, Experts)]
    for section in experts:
        end = 0
        for part in section.parts.values():
            assert part.offset % 64 == 0
            assert part.offset >= end
            end = part.offset + part.nbytes
        assert end <= section.shape[1] < end + 4096
    formats = [section.parts["ffn_down_exps.weight"].format.name for section in experts]
    assert formats == ["q4_k", "q6_k", "q4_k"]


@pytest.mark.parametrize(
    ("name", "grain"), [("llama-mistral", 48), ("llama", 16)], ids=["heads of 24", "heads of 16"]
)
def test_rows_that_are_made_together_fill_panels(name: str, grain: int, tmp_path: Path) -> None:
    matrices = {matrix.name: matrix for matrix in sections(folder_of(name, tmp_path / "folder")).matrices}
    assert matrices["blk.0.attn_q.weight"].grain == grain
    assert matrices["blk.0.attn_v.weight"].grain == 16
