"""Packing: the same numbers in another order, complete in itself, and refusals that leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.compress.packs import TEMPLATE, folder_of, k_quant_mix, logits
from tests.models.tiny import IN_GGUF, tiny_gguf

import apportion
from apportion.compress import buffers, packing
from apportion.compress.packing import pack, pack_checkpoint
from apportion.core.clock import RealClock
from apportion.core.disk import RealDisk
from apportion.core.errors import DiskFault, DoesNotFit, NotFound, Unsupported, UsageError
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.engine.loading import text_parts
from apportion.formats import open_checkpoint
from apportion.formats.gguf import open_gguf
from apportion.kernels import ReferenceOps
from apportion.models.loading import config_from_checkpoint
from apportion.models.units import model_units


@pytest.mark.parametrize(
    ("name", "block_format"),
    [
        *((name, "q4_0") for name in IN_GGUF),
        ("llama", "f32"),
        ("gpt_oss", "mxfp4"),
        ("deepseek2", "mxfp4"),
        ("olmoe", "nvfp4"),
    ],
)
def test_a_packed_file_gives_the_same_logits_bit_for_bit(
    name: str, block_format: str, tmp_path: Path
) -> None:
    source = tiny_gguf(name, tmp_path, block_format=block_format)
    pack(source, tmp_path / "packed.gguf")
    assert np.array_equal(logits(tmp_path / "packed.gguf"), logits(source))


def test_the_reference_reads_packed_files_too(tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path, block_format="q8_0")
    pack(source, tmp_path / "packed.gguf")
    expected = logits(source, ReferenceOps())
    assert np.array_equal(logits(tmp_path / "packed.gguf", ReferenceOps()), expected)


@pytest.mark.parametrize("name", ["llama", "qwen2moe"])
def test_formats_may_be_mixed(name: str, tmp_path: Path) -> None:
    source = k_quant_mix(name, tmp_path / "mixed.gguf")
    pack(source, tmp_path / "packed.gguf")
    with open_checkpoint(tmp_path / "packed.gguf") as packed:
        assert {"q4_k", "q6_k"} <= {tensor.format.name for tensor in packed.tensors.values()}
    assert np.array_equal(logits(tmp_path / "packed.gguf"), logits(source))


@pytest.mark.parametrize("name", ["llama-mistral", "gemma3", "gpt_oss", "olmoe"])
def test_a_folder_becomes_one_file_that_knows_everything(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "folder")
    pack(folder, tmp_path / "packed.gguf")
    assert np.array_equal(logits(tmp_path / "packed.gguf"), logits(folder))
    with open_checkpoint(folder) as stored, open_checkpoint(tmp_path / "packed.gguf") as packed:
        assert packed.metadata == stored.metadata
        (tokenizer, template, params), (expected, _, expected_params) = text_parts(packed), text_parts(stored)
    assert tokenizer.encode("hello world") == expected.encode("hello world")
    assert template is not None
    assert template.source == TEMPLATE
    assert params == expected_params


def test_metadata_of_a_gguf_file_stays_as_it_is(tmp_path: Path) -> None:
    source = tiny_gguf("qwen3moe", tmp_path)
    pack(source, tmp_path / "packed.gguf")
    with open_gguf(source) as stored, open_checkpoint(tmp_path / "packed.gguf") as packed:
        assert packed.kind == "gguf"
        assert packed.metadata.keys() - stored.metadata.keys() == {"general.alignment"}
        for key, value in stored.metadata.items():
            assert np.array_equal(packed.metadata[key], value), key


def test_other_programs_see_an_architecture_that_they_do_not_know(tmp_path: Path) -> None:
    pack(tiny_gguf("llama", tmp_path), tmp_path / "packed.gguf")
    with open_gguf(tmp_path / "packed.gguf") as packed:
        assert packed.metadata["general.architecture"] == "apportion"
        with pytest.raises(Unsupported):
            config_from_checkpoint(packed)


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek2", "gemma2"])
def test_every_unit_is_one_aligned_stretch_in_reading_order(name: str, tmp_path: Path) -> None:
    pack(tiny_gguf(name, tmp_path, block_format="q4_0"), tmp_path / "packed.gguf")
    with open_checkpoint(tmp_path / "packed.gguf") as packed:
        units = model_units(config_from_checkpoint(packed), packed.tensors)
    assert not units.why_not
    places = []
    for layer in units.layers:
        assert layer.dense is not None
        assert len(layer.experts) == layer.num_experts
        for unit in (layer.dense, *layer.experts):
            (stretch,) = unit.stretches
            assert stretch.offset % 4096 == 0
            places.append(stretch.offset)
            rows = [(member.interleaved, member.shape[-2]) for member in unit.members]
            assert all(interleaved == (count % 16 == 0) for interleaved, count in rows)
    assert places == sorted(places)


def test_an_embedding_that_is_only_looked_up_keeps_its_rows(tmp_path: Path) -> None:
    for name, interleaved in (("llama", False), ("llama-tied", True)):
        pack(tiny_gguf(name, tmp_path), tmp_path / "packed.gguf", force=True)
        with open_checkpoint(tmp_path / "packed.gguf") as packed:
            assert packed.tensors["token_embd.weight"].interleaved is interleaved


@pytest.mark.parametrize("name", ["llama-mistral", "gpt_oss", "olmoe"])
def test_the_size_of_pieces_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(name, tmp_path / "folder")
    pack(folder, tmp_path / "large.gguf")
    monkeypatch.setattr(buffers, "IDEAL_NBYTES", 1)
    pack(folder, tmp_path / "small.gguf")
    assert (tmp_path / "small.gguf").read_bytes() == (tmp_path / "large.gguf").read_bytes()


def test_progress_rises_to_the_size_of_the_file(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    packed = pack(
        tiny_gguf("olmoe", tmp_path), tmp_path / "packed.gguf", on_progress=lambda d, t: seen.append((d, t))
    )
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]} == {packed.nbytes} == {packed.path.stat().st_size}


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    source = tiny_gguf("llama", tmp_path, block_format="nvfp4")
    packed = apportion.pack(source, tmp_path / "packed.gguf")
    assert [note.split()[0] for note in packed.notes] == ["nvfp4"]


def test_a_budget_that_is_too_small_is_refused_with_one_that_would_do(tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path)
    with pytest.raises(DoesNotFit, match="--ram") as refused:
        pack(source, tmp_path / "packed.gguf", ram="20MiB")
    need = refused.value.numbers["need"]
    assert isinstance(need, int)
    pack(source, tmp_path / "packed.gguf", ram=need + (8 << 20))


def test_names_that_would_do_harm_are_refused(tmp_path: Path) -> None:
    source = tiny_gguf("llama", tmp_path)
    before = source.read_bytes()
    for out, hint in (
        (source, "another name"),
        (tmp_path / "packed.bin", "end in .gguf"),
        (tmp_path / "m-00001-of-00002.gguf", "unnumbered"),
    ):
        with pytest.raises(UsageError, match=hint):
            pack(source, out, force=True)
    with pytest.raises(NotFound, match="no folder"):
        pack(source, tmp_path / "nowhere" / "packed.gguf")
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.gguf"]


def test_a_file_that_is_there_is_only_replaced_when_asked(tmp_path: Path) -> None:
    source = tiny_gguf("llama", tmp_path)
    (tmp_path / "packed.gguf").write_bytes(b"precious")
    with pytest.raises(UsageError, match="--force"):
        pack(source, tmp_path / "packed.gguf")
    assert (tmp_path / "packed.gguf").read_bytes() == b"precious"
    pack(source, tmp_path / "packed.gguf", force=True)
    with pytest.raises(UsageError, match="packed already"):
        pack(tmp_path / "packed.gguf", tmp_path / "again.gguf")


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tiny_gguf("llama", tmp_path)
    usage = packing.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DiskFault, match="no room"):
        pack(source, tmp_path / "packed.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.gguf"]


def test_input_that_cannot_be_read_is_an_error_that_leaves_no_output(tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path)
    for number in (30, 60):
        plan = NthCall(number, Fault.IO_ERROR, "read")
        with (
            open_gguf(source, FaultyDisk(RealDisk(), plan, RealClock())) as checkpoint,
            pytest.raises(DiskFault, match=r"olmoe\.gguf"),
        ):
            pack_checkpoint(checkpoint, tmp_path / "packed.gguf")
        assert plan.broken
        assert not (tmp_path / "packed.gguf").exists()
    assert pack(source, tmp_path / "packed.gguf").resumed_nbytes > 0
