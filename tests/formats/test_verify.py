"""Verification: not finite numbers, recorded digests, flipped bytes, what changed since."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from tests.fuzz.fuzz_seeds import safetensors_bytes, tensors

from apportion.core.errors import BadFile, NotFound, Unsupported
from apportion.formats import open_checkpoint
from apportion.formats.blocks import FORMATS, format_by_name
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.digests import Digests, read_record, record_path, write_record
from apportion.formats.gguf import NewTensor, write_gguf
from apportion.formats.scales import SCALE_FIELDS, count_not_finite
from apportion.formats.verify import examine, verify

NO_SCALES = {"i8", "i16", "i32", "i64", "nvfp4"}  # every pattern of bits is a number


def model(folder: Path, **damage: float) -> Path:
    """Three tensors of 64 numbers; `damage` puts a value into the middle of a tensor."""
    entries = []
    for name in ("a", "b", "c"):
        values = np.linspace(-1, 1, 64, dtype=np.float32)
        values[32] = damage.get(name, values[32])
        entries.append(NewTensor(name, format_by_name("f32"), (64,), values.view(np.uint8)))
    entries += tensors(np.random.default_rng(0))
    write_gguf(folder / "m.gguf", {"general.architecture": "llama"}, entries)
    return folder / "m.gguf"


def record(path: Path) -> Digests:
    with open_checkpoint(path) as checkpoint:
        digests = examine(checkpoint, with_digests=True).digests
    assert digests is not None
    return digests


def test_a_sound_model_has_no_findings(tmp_path: Path) -> None:
    with open_checkpoint(model(tmp_path)) as checkpoint:
        assert verify(checkpoint) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_found_in_their_tensor(tmp_path: Path, value: float) -> None:
    with open_checkpoint(model(tmp_path, b=value)) as checkpoint:
        (finding,) = verify(checkpoint)
    assert (finding.kind, finding.file, finding.tensor) == ("not_finite", "m.gguf", "b")
    assert finding.numbers == {"count": 1, "first": 32, "format": "f32"}


def test_every_format_with_scales_is_looked_into() -> None:
    assert {name for name in FORMATS if name not in SCALE_FIELDS} == NO_SCALES | {"iq1_m"}


@pytest.mark.parametrize("name", [name for name in SCALE_FIELDS if name in FORMATS])
def test_a_scale_of_all_ones_is_found_where_decoding_sees_it(name: str) -> None:
    block_format = FORMATS[name]
    blocks = np.random.default_rng(1).integers(1, 120, (8, block_format.block_nbytes), np.uint8)
    for dtype, offset, mask in SCALE_FIELDS[name]:
        size = np.dtype(dtype).itemsize
        calm = blocks.copy()
        for _, start, full in SCALE_FIELDS[name]:
            quiet = np.array(full >> 2 & ~full >> 1 or 1, dtype)
            calm[:, start : start + size] = np.frombuffer(quiet.tobytes(), np.uint8)
        assert count_not_finite(block_format, calm.reshape(-1)) == (0, -1)
        assert np.isfinite(block_format.decode(calm)).all()
        bad = calm.copy()
        bad[5, offset : offset + size] = np.frombuffer(np.array(mask, dtype).tobytes(), np.uint8)
        assert count_not_finite(block_format, bad.reshape(-1)) == (1, 5)
        if name not in ("q8_1", "mxfp4"):  # q8_1's second field is a sum; mxfp4 decodes NaN's code as 2^128
            with np.errstate(all="ignore"):
                assert not np.isfinite(block_format.decode(bad)[5]).all()


def test_the_scattered_scale_of_iq1_m_is_found() -> None:
    block_format = format_by_name("iq1_m")
    blocks = np.zeros((4, 56), np.uint8)
    blocks[:, 55] = 0x30
    assert count_not_finite(block_format, blocks.reshape(-1)) == (0, -1)
    blocks[2, 55], blocks[2, 53] = 0x70, 0xC0  # the highest nibbles, the last one highest: 0x7c00
    assert count_not_finite(block_format, blocks.reshape(-1)) == (1, 2)


def test_recorded_digests_tell_which_tensor_every_flipped_byte_is_in(tmp_path: Path) -> None:
    path = model(tmp_path)
    recorded, data, rng = record(path), path.read_bytes(), random.Random(7)
    with open_checkpoint(path) as checkpoint:
        places = list(checkpoint.tensors.values())
    for offset in rng.sample(range(len(data)), 64):
        flipped = bytearray(data)
        flipped[offset] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        holder = next((t.name for t in places if t.offset <= offset < t.offset + t.nbytes), None)
        try:
            with open_checkpoint(path) as checkpoint:
                found = verify(checkpoint, recorded=recorded)
        except (BadFile, Unsupported):
            assert holder is None
            continue
        assert ("changed", holder) in [(finding.kind, finding.tensor) for finding in found], offset


def test_tensors_that_came_or_went_are_found(tmp_path: Path) -> None:
    path = model(tmp_path)
    now = record(path)
    then = Digests({**now.tensors, "gone": "0" * 64}, now.headers, {"config.json": "0" * 64})
    del then.tensors["a"]
    with open_checkpoint(path) as checkpoint:
        found = {
            (finding.kind, finding.tensor, finding.file) for finding in verify(checkpoint, recorded=then)
        }
    assert found == {
        ("missing", "gone", "m.gguf"), ("not_recorded", "a", "m.gguf"), ("missing", None, "config.json"),
    }  # fmt: skip


def test_a_changed_side_file_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    header = {"t": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(header, bytes(4)))
    recorded = record(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with open_checkpoint(tmp_path) as checkpoint:
        (finding,) = verify(checkpoint, recorded=recorded)
    assert (finding.kind, finding.file) == ("changed", "tokenizer.json")


def test_a_tensor_without_elements_is_found(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    header = {"none": {"dtype": "F32", "shape": [0, 4], "data_offsets": [0, 0]}}
    (tmp_path / "model.safetensors").write_bytes(safetensors_bytes(header, b""))
    with open_checkpoint(tmp_path) as checkpoint:
        assert [finding.kind for finding in verify(checkpoint)] == ["no_elements"]


def test_a_file_cut_off_since_it_was_opened_is_found(tmp_path: Path) -> None:
    path = model(tmp_path)
    with open_checkpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
        found = verify(checkpoint)
    assert {finding.kind for finding in found} == {"truncated"}
    assert all(finding.tensor for finding in found)


def test_overlapping_and_outlying_tensors_are_found(tmp_path: Path) -> None:
    with open_checkpoint(model(tmp_path)) as checkpoint:
        first, second = checkpoint.tensors["a"], checkpoint.tensors["b"]
        forged = {
            "a": first,
            "b": TensorInfo("b", second.format, (64,), 0, first.offset + 128, 256),
            "c": TensorInfo("c", second.format, (64,), 0, checkpoint.file_sizes[0] - 8, 256),
        }
        checkpoint.tensors = forged
        found = {(finding.kind, finding.tensor) for finding in verify(checkpoint)}
    assert found >= {("overlap", "b"), ("out_of_range", "c")}


def test_sha256_is_compared_in_either_case(tmp_path: Path) -> None:
    path = model(tmp_path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    with open_checkpoint(path) as checkpoint:
        assert verify(checkpoint, sha256={path: right.upper()}) == []
        (finding,) = verify(checkpoint, sha256={path: "0" * 64})
        (missing,) = verify(checkpoint, sha256={tmp_path / "absent": right})
    assert (finding.kind, finding.numbers["found"]) == ("sha256", right)
    assert missing.kind == "not_found"


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    path, seen = model(tmp_path), []
    with open_checkpoint(path) as checkpoint:
        sha = {path: hashlib.sha256(path.read_bytes()).hexdigest()}
        examine(checkpoint, sha256=sha, with_digests=True, on_progress=lambda *now: seen.append(now))
    assert seen == sorted(seen)
    assert seen[-1] == (2 * path.stat().st_size,) * 2


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    path = model(tmp_path)
    with open_checkpoint(path) as checkpoint:
        place = record_path(checkpoint)
    assert place.name == "m.gguf.digests.json"
    write_record(place, record(path))
    assert read_record(place) == record(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.gguf", "m.gguf.digests.json"]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], BadFile), ({}, BadFile), ({"apportion_digests": 2}, Unsupported),
        ({"apportion_digests": 1}, BadFile),
        ({"apportion_digests": 1, "tensors": {"a": "../etc"}, "headers": {}, "side_files": {}}, BadFile),
        ({"apportion_digests": 1, "tensors": {"a": "0" * 63}, "headers": {}, "side_files": {}}, BadFile),
        ({"apportion_digests": 1, "tensors": {}, "headers": [], "side_files": {}}, BadFile),
        ({"apportion_digests": 1, "tensors": {"a": 1}, "headers": {}, "side_files": {}}, BadFile),
    ],
)  # fmt: skip
def test_a_bad_record_is_refused(tmp_path: Path, value: object, error: type[Exception]) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps(value))
    with pytest.raises(error):
        read_record(path)


def test_a_missing_record_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_record(tmp_path / "r.json")
