"""Writing GGUF: what was written is read back, by us and by others, and a file is whole or not there."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.formats.raw_gguf import RawGguf, entry

from apportion.core.clock import VirtualClock
from apportion.core.disk import write_all
from apportion.core.errors import ApportionError, DiskFault, UsageError
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.core.virtual_disk import VirtualDisk
from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import GgufCheckpoint, NewTensor, TypedList, ValueType, open_gguf, write_gguf
from apportion.formats.gguf.values import DTYPES

F32 = format_by_name("f32")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.sampled_from(list(DTYPES.values())).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(0, 5)))
STRINGS = st.lists(TEXT, max_size=4).map(lambda words: TypedList(ValueType.STRING, words))
LEAVES = st.one_of(NUMBERS, STRINGS)
ARRAYS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3).map(lambda values: TypedList(ValueType.ARRAY, values)),
    max_leaves=6,
)
SCALARS = st.one_of(
    st.booleans().map(lambda v: (ValueType.BOOL, v)),
    st.integers(0, 255).map(lambda v: (ValueType.UINT8, v)),
    st.integers(-(1 << 15), (1 << 15) - 1).map(lambda v: (ValueType.INT16, v)),
    st.integers(0, (1 << 32) - 1).map(lambda v: (ValueType.UINT32, v)),
    st.integers(0, (1 << 64) - 1).map(lambda v: (ValueType.UINT64, v)),
    st.integers(-(1 << 63), (1 << 63) - 1).map(lambda v: (ValueType.INT64, v)),
    st.floats(width=32).map(lambda v: (ValueType.FLOAT32, v)),
    st.floats().map(lambda v: (ValueType.FLOAT64, v)),
    TEXT.map(lambda v: (ValueType.STRING, v)),
)
KEYS = st.text("abcdefghij._-é", min_size=1, max_size=10).filter(lambda key: ".." not in key)
METADATA = st.dictionaries(KEYS, st.one_of(SCALARS, ARRAYS.map(lambda v: (ValueType.ARRAY, v))), max_size=6)
SHAPES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


def tensor(name: str = "w", shape: tuple[int, ...] = (2, 4)) -> NewTensor:
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    return NewTensor(name, F32, shape, values.view(np.uint8))


def contents(checkpoint: GgufCheckpoint) -> dict[str, bytes]:
    result = {}
    for name, info in checkpoint.tensors.items():
        out = np.empty(info.nbytes, np.uint8)
        checkpoint.read(info, out)
        result[name] = out.tobytes()
    return result


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, NaN included."""
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.tobytes() == right.tobytes()
    if isinstance(left, TypedList):
        return left.element is right.element and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and left != left:
        return bool(right != right)
    return type(left) is type(right) and left == right


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    metadata=METADATA,
    shapes=st.lists(st.tuples(st.sampled_from(["f32", "q8_0", "q4_k", "mxfp4"]), SHAPES), max_size=4),
    alignment=st.sampled_from([1, 8, 32, 4096]),
    seed=st.integers(0, 1000),
)
def test_what_is_written_is_read_back(
    metadata: dict[str, tuple[ValueType, Any]], shapes: list[tuple[str, list[int]]], alignment: int, seed: int
) -> None:
    disk, path = VirtualDisk(), Path("/m.gguf")
    rng = np.random.default_rng(seed)
    tensors = []
    for index, (name, dims) in enumerate(shapes):
        block_format = format_by_name(name)
        shape = (*dims[:-1], dims[-1] * block_format.block_size)
        new = NewTensor(f"t{index}", block_format, shape, np.empty(0, np.uint8))
        tensors.append(new._replace(data=rng.integers(0, 256, new.nbytes, np.uint8)))
    types = {key: value_type for key, (value_type, _) in metadata.items()}
    values = {key: value for key, (_, value) in metadata.items()}
    write_gguf(path, values, tensors, alignment, types=types, disk=disk)
    with open_gguf(path, disk) as read:
        assert read.alignment == alignment
        extra = {"general.alignment"} if alignment != 32 else set()
        assert list(read.metadata) == [*values, *extra]
        assert all(read.value_types[key] is types[key] for key in values)
        assert all(same(values[key], read.metadata[key]) for key in values)
        assert [(t.name, t.format, t.shape) for t in tensors] == [
            (t.name, t.format, t.shape) for t in read.tensors.values()
        ]
        assert contents(read) == {t.name: t.data.tobytes() for t in tensors}  # type: ignore[union-attr]


def test_a_copy_is_the_same_bytes(tmp_path: Path) -> None:
    metadata = {
        "a": np.int8(-3),
        "b": [1, 2],
        "c": TypedList(ValueType.ARRAY, [["x"], []]),
        "d": 1.5,
        "e": True,
    }
    write_gguf(tmp_path / "first.gguf", metadata, [tensor("a"), tensor("b", (3,))], 64)
    with open_gguf(tmp_path / "first.gguf") as first:
        data = contents(first)
        copied = [
            (t.name, t.format, t.shape, np.frombuffer(data[t.name], np.uint8)) for t in first.tensors.values()
        ]
        write_gguf(tmp_path / "second.gguf", first.metadata, copied, types=first.value_types)
    assert (tmp_path / "second.gguf").read_bytes() == (tmp_path / "first.gguf").read_bytes()


def test_the_gguf_package_reads_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    block_format = format_by_name("q4_0")
    rows = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    metadata = {"general.architecture": "llama", "llama.block_count": 2, "x.words": ["a", "é"], "x.f": 0.5}
    tensors = [
        NewTensor("blk.0.q.weight", block_format, (3, 64), block_format.quantize(rows)),
        tensor("norm", (5,)),
    ]
    write_gguf(path, metadata, tensors, 128)
    reader = gguf.GGUFReader(path)
    assert reader.alignment == 128
    assert {key: reader.fields[key].contents() for key in metadata} == metadata
    assert [t.name for t in reader.tensors] == ["blk.0.q.weight", "norm"]
    assert reader.tensors[0].tensor_type == gguf.GGMLQuantizationType.Q4_0
    assert np.array_equal(reader.tensors[0].data, block_format.quantize(rows))
    assert np.array_equal(reader.tensors[1].data, np.arange(5, dtype=np.float32))


@pytest.mark.parametrize("in_chunks", [False, True])
def test_data_may_come_from_a_function_when_its_turn_comes(tmp_path: Path, in_chunks: bool) -> None:
    asked: list[str] = []

    def data(name: str) -> Any:
        asked.append(name)
        whole = np.full(32, len(asked), np.uint8)
        return [whole[:5], whole[5:5], whole[5:]] if in_chunks else whole

    tensors = [NewTensor(name, F32, (8,), lambda name=name: data(name)) for name in ("a", "b")]
    write_gguf(tmp_path / "m.gguf", {}, tensors)
    with open_gguf(tmp_path / "m.gguf") as read:
        assert contents(read) == {"a": b"\1" * 32, "b": b"\2" * 32}
    assert asked == ["a", "b"]


@pytest.mark.parametrize("nbytes", [0, 31, 33, 64])
def test_data_of_the_wrong_size_leaves_nothing_behind(tmp_path: Path, nbytes: int) -> None:
    with pytest.raises(UsageError, match="does not fit its shape"):
        write_gguf(tmp_path / "m.gguf", {}, [NewTensor("a", F32, (8,), np.zeros(nbytes, np.uint8))])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        tensor("../a"), tensor(""), tensor("a\0"), tensor("n" * 64), tensor("é" * 32),
        NewTensor("a", F32, (), np.zeros(4, np.uint8)),
        NewTensor("a", F32, (1,) * 5, np.zeros(4, np.uint8)),
        NewTensor("a", F32, (2, 0), np.zeros(0, np.uint8)),
        NewTensor("a", format_by_name("q4_0"), (31,), np.zeros(18, np.uint8)),
    ],
)  # fmt: skip
def test_what_could_not_be_read_back_is_refused(tmp_path: Path, bad: NewTensor) -> None:
    with pytest.raises(UsageError):
        write_gguf(tmp_path / "m.gguf", {}, [bad])
    assert list(tmp_path.iterdir()) == []


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another tensor"):
        write_gguf(tmp_path / "m.gguf", {}, [tensor("a"), tensor("a")])


@pytest.mark.parametrize("alignment", [0, 3, 48, 1 << 22, -32])
def test_an_alignment_that_is_no_power_of_two_is_refused(tmp_path: Path, alignment: int) -> None:
    with pytest.raises(UsageError, match="alignment"):
        write_gguf(tmp_path / "m.gguf", {}, [], alignment)


def test_the_alignment_of_the_metadata_is_kept(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"general.alignment": 256}, [tensor("a"), tensor("b")])
    with open_gguf(tmp_path / "m.gguf") as read:
        assert all(info.offset % 256 == 0 for info in read.tensors.values())


def test_every_disk_call_may_fail_and_the_older_file_stays() -> None:
    for number in range(200):
        disk, path = VirtualDisk(), Path("/models/m.gguf")
        with disk.open(path, "create") as file:
            write_all(file, RawGguf(entries=[entry("old", (8,))], data=bytes(32)).build(), 0)
        plan = NthCall(number, Fault.IO_ERROR)
        try:
            write_gguf(path, {"a": 1}, [tensor("new")], disk=FaultyDisk(disk, plan, VirtualClock()))
        except ApportionError as error:
            assert isinstance(error, DiskFault)
        with open_gguf(path, disk) as read:
            assert list(read.tensors) in (["old"], ["new"])
            written = list(read.tensors) == ["new"]
        if not plan.broken:
            assert written
            assert disk.listdir("/models") == ["m.gguf"]
            break
    assert number > 5


def test_a_power_cut_leaves_the_old_or_the_new_file() -> None:
    disk, path = VirtualDisk(), Path("/models/m.gguf")
    write_gguf(path, {}, [tensor("old")], disk=disk)
    write_gguf(path, {}, [tensor("new")], disk=disk)
    disk.crash()
    with open_gguf(path, disk) as read:
        assert list(read.tensors) == ["new"]
        assert contents(read)["new"] == np.arange(8, dtype=np.float32).tobytes()


def test_version_and_padding_are_as_the_format_says(tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {}, [tensor("a", (1,))])
    data = (tmp_path / "m.gguf").read_bytes()
    assert data[:8] == b"GGUF" + struct.pack("<I", 3)
    assert len(data) % 32 == 0
