"""Packed files as checkpoints: where their tensors are, what they carry, every lie that they could tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.formats.packed.crafted import STRIDE, Change, Crafted
from tests.models.tiny import tiny_gguf

from apportion.compress import pack
from apportion.core.errors import ApportionError, BadFile, LimitExceeded, Truncated, Unsupported
from apportion.formats import open_checkpoint
from apportion.formats.packed import PackedCheckpoint
from apportion.formats.verify import examine, verify


def test_tensors_of_experts_are_stacks_with_a_stride(tmp_path: Path) -> None:
    with open_checkpoint(Crafted().write(tmp_path)) as packed:
        assert isinstance(packed, PackedCheckpoint)
        down = packed.tensors["blk.0.ffn_down_exps.weight"]
        assert (down.format.name, down.shape, down.stride) == ("q8_0", (2, 64, 32), STRIDE)
        assert not down.interleaved
        assert packed.tensors["token_embd.weight"].interleaved
        assert set(packed.tensors) == {"token_embd.weight"} | {
            f"blk.0.ffn_{part}_exps.weight" for part in ("gate", "up", "down")
        }


def test_a_stack_is_read_from_its_units_wherever_a_read_begins(tmp_path: Path) -> None:
    path = Crafted().write(tmp_path)
    content = bytearray(path.read_bytes())
    with open_checkpoint(path) as packed:
        up = packed.tensors["blk.0.ffn_up_exps.weight"]
        first = up.offset
        numbers = np.random.default_rng(0).integers(0, 256, 2 * 4096, np.uint8)
        content[first : first + 4096] = numbers[:4096].tobytes()
        content[first + STRIDE : first + STRIDE + 4096] = numbers[4096:].tobytes()
        path.write_bytes(content)
        for start, count in ((0, 8192), (100, 3000), (4000, 200), (4096, 4096), (8191, 1), (8192, 0)):
            out = np.empty(count, np.uint8)
            packed.read(up, out, start)
            assert np.array_equal(out, numbers[start : start + count])


def test_metadata_and_small_files_are_the_models_own(tmp_path: Path) -> None:
    with open_checkpoint(Crafted().write(tmp_path)) as packed:
        assert packed.metadata["general.architecture"] == "olmoe"
        assert not any(key.startswith("apportion.") for key in packed.metadata)
        assert packed.side_files.names() == ["tokenizer.json"]
        assert packed.side_files.read("tokenizer.json", 5) == bytes(5)
        assert not packed.side_files.has("config.json")
        with pytest.raises(BadFile, match=r"no config\.json"):
            packed.side_files.read("config.json", 5)
        with pytest.raises(LimitExceeded):
            packed.side_files.read("tokenizer.json", 4)


def test_units_cover_every_byte_of_the_file(tmp_path: Path) -> None:
    pack(tiny_gguf("olmoe", tmp_path, block_format="q4_0"), tmp_path / "packed.gguf")
    with open_checkpoint(tmp_path / "packed.gguf") as packed:
        end = 0
        for unit in packed.units():
            assert unit.stretch.offset == end
            assert (unit.digest is None) == (unit.stretch.name == "apportion.digests")
            end += unit.stretch.nbytes
        assert end == packed.file_sizes[0]
        held = [tensor.name for unit in packed.units() for tensor in unit.tensors]
        assert set(held) == set(packed.tensors)


CHANGES: dict[str, tuple[type[ApportionError], Change]] = {}


def lie(error: type[ApportionError]) -> Any:
    """Register one way of being wrong with the error that it must meet."""

    def register(change: Change) -> Change:
        CHANGES[change.__name__] = (error, change)
        return change

    return register


@lie(BadFile)
def a_matrix_reaches_past_its_unit(file: Crafted) -> None:
    file.gate["offset"] = STRIDE - 4095


@lie(BadFile)
def a_matrix_lies_far_outside(file: Crafted) -> None:
    file.gate["offset"] = 1 << 47


@lie(BadFile)
def an_offset_is_negative(file: Crafted) -> None:
    file.gate["offset"] = -4096


@lie(BadFile)
def an_offset_is_a_fraction(file: Crafted) -> None:
    file.gate["offset"] = 0.5


@lie(BadFile)
def an_offset_is_a_word(file: Crafted) -> None:
    file.gate["offset"] = "0"


@lie(BadFile)
def matrices_overlap(file: Crafted) -> None:
    file.gate["offset"] = 64


@lie(BadFile)
def a_shape_is_huge(file: Crafted) -> None:
    file.gate["shape"] = [1 << 31, 1 << 31]


@lie(BadFile)
def a_shape_has_no_rows(file: Crafted) -> None:
    file.gate["shape"] = [0, 64]


@lie(BadFile)
def a_shape_has_three_dimensions(file: Crafted) -> None:
    file.gate["shape"] = [16, 64, 1]


@lie(BadFile)
def rows_fill_no_panel(file: Crafted) -> None:
    file.gate["shape"] = [8, 64]


@lie(BadFile)
def rows_are_no_whole_blocks(file: Crafted) -> None:
    file.gate.update(format="q8_0", shape=[16, 33])


@lie(BadFile)
def a_format_has_no_panels(file: Crafted) -> None:
    file.gate["format"] = "f64"


@lie(Unsupported)
def a_format_is_unknown(file: Crafted) -> None:
    file.gate["format"] = "q99"


@lie(BadFile)
def a_flag_is_a_number(file: Crafted) -> None:
    file.gate["interleaved"] = 1


@lie(BadFile)
def an_expert_lacks_a_matrix(file: Crafted) -> None:
    del file.layout["experts"]["0"]["ffn_up_exps.weight"]


@lie(BadFile)
def an_expert_has_one_too_many(file: Crafted) -> None:
    file.layout["experts"]["0"]["attn_q.weight"] = file.gate


@lie(BadFile)
def a_layer_is_not_there(file: Crafted) -> None:
    file.layout["experts"]["1"] = file.layout["experts"]["0"]


@lie(BadFile)
def a_layer_has_an_odd_name(file: Crafted) -> None:
    file.layout["experts"]["00"] = file.layout["experts"]["0"]


@lie(BadFile)
def a_layer_is_no_number(file: Crafted) -> None:
    file.layout["experts"] = {"\u00b2": file.layout["experts"]["0"]}


@lie(BadFile)
def a_matrix_in_panels_is_not_there(file: Crafted) -> None:
    file.layout["interleaved"] = ["output.weight"]


@lie(BadFile)
def small_files_lie_in_panels(file: Crafted) -> None:
    file.layout["interleaved"] = ["apportion.file.tokenizer.json"]


@lie(BadFile)
def experts_as_they_are_stored_lie_in_panels(file: Crafted) -> None:
    file.layout["interleaved"] = ["blk.0.experts"]


@lie(BadFile)
def a_stride_is_not_aligned(file: Crafted) -> None:
    file.experts = (2, STRIDE + 64)


@lie(BadFile)
def experts_have_three_dimensions(file: Crafted) -> None:
    file.experts = (2, 3, 4096)


@lie(BadFile)
def experts_are_no_bytes(file: Crafted) -> None:
    file.formats["blk.0.experts"] = "f32"


@lie(BadFile)
def a_stack_stands_twice(file: Crafted) -> None:
    file.names["token_embd.weight"] = "blk.0.ffn_up_exps.weight"
    file.layout["interleaved"] = []


@lie(BadFile)
def digests_are_missing(file: Crafted) -> None:
    file.names["apportion.digests"] = "something"


@lie(BadFile)
def there_are_too_few_digests(file: Crafted) -> None:
    file.num_digests = 4


@lie(BadFile)
def there_are_too_many_digests(file: Crafted) -> None:
    file.num_digests = 6


@lie(BadFile)
def tensors_are_not_aligned(file: Crafted) -> None:
    file.alignment = 32


@lie(BadFile)
def the_layout_is_missing(file: Crafted) -> None:
    file.metadata["apportion.pack.layout"] = None


@lie(BadFile)
def the_layout_is_a_number(file: Crafted) -> None:
    file.metadata["apportion.pack.layout"] = 7


@lie(BadFile)
def the_layout_is_no_json(file: Crafted) -> None:
    file.layout = "{"


@lie(BadFile)
def the_layout_is_a_list(file: Crafted) -> None:
    file.layout = "[]"


@lie(LimitExceeded)
def the_layout_is_nested_without_end(file: Crafted) -> None:
    file.layout = "[" * 100_000


@lie(BadFile)
def the_layout_repeats_a_key(file: Crafted) -> None:
    file.layout = '{"interleaved": [], "interleaved": [], "experts": {}}'


@lie(BadFile)
def the_version_is_missing(file: Crafted) -> None:
    file.metadata["apportion.pack.version"] = None


@lie(Unsupported)
def the_version_is_newer(file: Crafted) -> None:
    file.metadata["apportion.pack.version"] = 2


@lie(BadFile)
def the_source_is_unknown(file: Crafted) -> None:
    file.metadata["apportion.pack.source"] = "pickle"


@lie(BadFile)
def a_folder_without_its_configuration(file: Crafted) -> None:
    file.metadata["apportion.pack.source"] = "safetensors"


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    error, change = CHANGES[name]
    file = Crafted()
    change(file)
    with pytest.raises(error) as refused:
        open_checkpoint(file.write(tmp_path))
    assert type(refused.value) is error
    assert len(str(refused.value)) < 1000


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = Crafted().write(tmp_path)
    content = path.read_bytes()
    for cut in (4096, 1):
        path.write_bytes(content[:-cut])
        with pytest.raises(Truncated):
            open_checkpoint(path)


@pytest.fixture
def packed_model(tmp_path: Path) -> Path:
    pack(tiny_gguf("gpt_oss", tmp_path, block_format="q4_0"), tmp_path / "packed.gguf")
    return tmp_path / "packed.gguf"


def test_a_packed_file_is_verified_by_its_own_digests(packed_model: Path) -> None:
    with open_checkpoint(packed_model) as packed:
        assert verify(packed) == []
        offsets = {unit.stretch.name: unit.stretch.offset for unit in packed.units()}
        sizes = {unit.stretch.name: unit.stretch.nbytes for unit in packed.units()}
    content = packed_model.read_bytes()
    for name in ("header", "token_embd.weight", "blk.1.experts.2", "blk.2.attn_q.weight"):
        broken = bytearray(content)
        place = offsets[name] + (sizes[name] - 1 if name != "header" else 200)
        broken[place] ^= 1
        packed_model.write_bytes(broken)
        with open_checkpoint(packed_model) as packed:
            found = [(finding.kind, finding.tensor) for finding in verify(packed)]
        assert found == [("changed", name)]


def test_numbers_that_are_not_finite_are_found_in_panels_and_units(packed_model: Path) -> None:
    with open_checkpoint(packed_model) as packed:
        units = {unit.stretch.name: unit for unit in packed.units()}
    content = bytearray(packed_model.read_bytes())
    gate, query = units["blk.0.experts.3"].tensors[0], units["blk.0.attn_q.weight"].tensors[0]
    # The first 32 bytes of a panel of q4_0 are the scales of 16 rows' first blocks.
    for place in (gate.offset + 2 * 5, query.offset + 2 * 7):
        content[place : place + 2] = b"\x00\x7c"
    packed_model.write_bytes(content)
    with open_checkpoint(packed_model) as packed:
        found = [finding for finding in verify(packed) if finding.kind == "not_finite"]
    assert [finding.tensor for finding in found] == ["blk.0.attn_q.weight", "blk.0.ffn_gate_exps.weight"]
    assert [finding.numbers["count"] for finding in found] == [1, 1]


def test_digests_of_a_packed_file_can_be_recorded_beside_it_as_well(packed_model: Path) -> None:
    with open_checkpoint(packed_model) as packed:
        recorded = examine(packed, with_digests=True).digests
        assert recorded is not None
        assert verify(packed, recorded=recorded) == []
        assert recorded.tensors["blk.0.experts.0"] == next(
            unit.digest for unit in packed.units() if unit.stretch.name == "blk.0.experts.0"
        )
