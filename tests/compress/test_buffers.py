"""The memory of packing: what is leased is what is taken, and too little is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.compress.packs import k_quant_mix
from tests.compress.test_sections import sections
from tests.models.tiny import tiny_gguf

from apportion.compress.buffers import MARGIN_NBYTES, Buffers
from apportion.core.errors import DoesNotFit
from apportion.core.resident import peak_rss_bytes
from apportion.core.units import MiB


def test_pieces_are_as_large_as_the_budget_lets_them(tmp_path: Path) -> None:
    matrices = sections(k_quant_mix("qwen2moe", tmp_path / "mixed.gguf")).matrices
    sizes = []
    for room in (1, 400, 8000):  # KiB
        buffers = Buffers(matrices, peak_rss_bytes() + MARGIN_NBYTES + MiB // 2 + room * 1024)
        sizes.append(buffers.piece_nbytes)
        assert buffers.kept().size >= buffers.piece_nbytes
        buffers.close()
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_pieces_are_kept_in_turn_and_what_is_recoded_has_a_place_of_its_own(tmp_path: Path) -> None:
    buffers = Buffers(sections(tiny_gguf("llama", tmp_path, block_format="nvfp4")).matrices, None)
    first, second, third = (buffers.kept().ctypes.data for _ in range(3))
    assert first == third != second
    assert buffers.stored.ctypes.data not in (first, second)
    buffers.close()


def test_a_budget_without_room_names_the_smallest(tmp_path: Path) -> None:
    matrices = sections(tiny_gguf("olmoe", tmp_path)).matrices
    with pytest.raises(DoesNotFit, match="--ram") as refused:
        Buffers(matrices, 5 * MiB)
    need = refused.value.numbers["need"]
    assert isinstance(need, int)
    assert need % MiB == 0
    assert need > peak_rss_bytes()
