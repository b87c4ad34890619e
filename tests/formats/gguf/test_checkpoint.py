"""Opening GGUF models: one file, shards, reading, and what a disk can do to a reader."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from tests.formats.raw_gguf import ARRAY, STRING, TYPE_F32, RawGguf, array, entry, pair, text, valid
from tests.fuzz.fuzz_seeds import disk_with, gguf_seeds

from apportion.core.clock import VirtualClock
from apportion.core.disk import write_all
from apportion.core.errors import ApportionError, BadFile, DiskFault, NotFound, Truncated
from apportion.core.faulty_disk import Fault, FaultyDisk, NthCall
from apportion.core.virtual_disk import VirtualDisk
from apportion.formats import open_checkpoint
from apportion.formats.gguf import GgufCheckpoint, ValueType, open_gguf

U16, I32 = 2, 5


def shard(number: int, count: int, tensor: str, total: int | None = None) -> RawGguf:
    pairs = [
        pair("split.no", U16, struct.pack("<H", number)),
        pair("split.count", U16, struct.pack("<H", count)),
        pair("split.tensors.count", I32, struct.pack("<i", count if total is None else total)),
    ]
    if number == 0:
        pairs.append(pair("general.architecture", STRING, text("llama")))
    data = np.full(8, number, np.float32).tobytes()
    return RawGguf(pairs=pairs, entries=[entry(tensor, (8,), TYPE_F32)], data=data)


def write_shards(folder: Path, shards: list[RawGguf]) -> list[Path]:
    names = [f"m-{i:05d}-of-{len(shards):05d}.gguf" for i in range(1, len(shards) + 1)]
    return [raw.write(folder, name) for raw, name in zip(shards, names, strict=True)]


def three_shards() -> list[RawGguf]:
    return [shard(i, 3, f"t{i}") for i in range(3)]


def read_all(checkpoint: GgufCheckpoint, name: str) -> bytes:
    tensor = checkpoint.tensors[name]
    out = np.empty(tensor.nbytes, np.uint8)
    checkpoint.read(tensor, out)
    return out.tobytes()


@pytest.mark.parametrize("through", [0, 1, 2])
def test_a_split_model_opens_through_any_of_its_shards(tmp_path: Path, through: int) -> None:
    paths = write_shards(tmp_path, three_shards())
    with open_gguf(paths[through]) as checkpoint:
        assert list(checkpoint.files) == paths
        assert list(checkpoint.tensors) == ["t0", "t1", "t2"]
        assert checkpoint.metadata["general.architecture"] == "llama"
        for number in range(3):
            assert read_all(checkpoint, f"t{number}") == np.full(8, number, np.float32).tobytes()


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_shard_is_named(tmp_path: Path, lost: int) -> None:
    paths = write_shards(tmp_path, three_shards())
    paths.pop(lost).unlink()
    with pytest.raises(NotFound, match=rf"1 of the 3 shards.*m-0000{lost + 1}-of-00003"):
        open_gguf(paths[0])


@pytest.mark.parametrize(
    "shards",
    [
        [shard(0, 2, "a"), shard(0, 2, "b")],
        [shard(1, 2, "a"), shard(0, 2, "b")],
        [shard(0, 2, "a"), shard(1, 3, "b")],
        [shard(0, 2, "a"), shard(1, 2, "a")],
        [shard(0, 2, "a", total=3), shard(1, 2, "b")],
        [shard(0, 2, "a"), valid(random.Random(0))],
    ],
    ids=["repeated", "swapped", "another count", "tensor twice", "wrong total", "no shard"],
)
def test_shards_that_do_not_belong_together_are_refused(tmp_path: Path, shards: list[RawGguf]) -> None:
    paths = write_shards(tmp_path, shards)
    with pytest.raises(BadFile):
        open_gguf(paths[0])


def test_a_shard_under_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="one of 3 shards"):
        open_gguf(shard(0, 3, "a").write(tmp_path, "model.gguf"))


@pytest.mark.parametrize("name", ["m-00003-of-00002.gguf", "m-00000-of-00002.gguf", "m-00001-of-99999.gguf"])
def test_a_name_with_senseless_numbers_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadFile, match="not a shard's name"):
        open_gguf(valid(random.Random(0)).write(tmp_path, name))


def test_a_single_file_may_call_itself_the_first_of_one(tmp_path: Path) -> None:
    raw = valid(random.Random(0))
    with open_gguf(raw.write(tmp_path, "m-00001-of-00001.gguf")) as checkpoint:
        assert len(checkpoint.files) == 1


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        open_checkpoint(tmp_path / "absent.gguf")


def test_values_keep_their_types(tmp_path: Path) -> None:
    nested = array(ARRAY, 2, array(STRING, 1, text("é")) + array(0, 2, b"\1\2"))
    raw = RawGguf(
        pairs=[
            pair("small", 0, b"\xff"),
            pair("signed", 1, b"\xff"),
            pair("wide", 12, struct.pack("<d", 0.1)),
            pair("narrow", 6, struct.pack("<f", 0.5)),
            pair("flag", 7, b"\1"),
            pair("words", ARRAY, array(STRING, 2, text("") + text("▁the"))),
            pair("none", ARRAY, array(STRING, 0)),
            pair("flags", ARRAY, array(7, 3, b"\1\0\1")),
            pair("nested", ARRAY, nested),
        ]
    )
    with open_gguf(raw.write(tmp_path)) as checkpoint:
        metadata = dict(checkpoint.metadata)
        assert checkpoint.value_types["wide"] is ValueType.FLOAT64
    assert metadata.pop("flags").tolist() == [True, False, True]
    (words, numbers) = metadata.pop("nested")
    assert words == ["é"]
    assert numbers.dtype == np.uint8
    assert numbers.tolist() == [1, 2]
    assert metadata.pop("words") == ["", "▁the"]
    assert metadata == {"small": 255, "signed": -1, "wide": 0.1, "narrow": 0.5, "flag": True, "none": []}


def test_strings_and_arrays_across_chunks_are_whole(tmp_path: Path) -> None:
    words = [f"word {i} " + "x" * (i % 700) for i in range(9000)]
    numbers = np.arange(800_001, dtype=np.uint16)
    raw = RawGguf(
        pairs=[
            pair("words", ARRAY, array(STRING, len(words), b"".join(map(text, words)))),
            pair("numbers", ARRAY, array(U16, len(numbers), numbers.tobytes())),
            pair("again", ARRAY, array(STRING, len(words), b"".join(map(text, words)))),
            pair("long", STRING, text("é" * 1_500_000)),
            pair("last", STRING, text("end")),
        ]
    )
    with open_gguf(raw.write(tmp_path)) as checkpoint:
        assert checkpoint.metadata["words"] == words
        assert np.array_equal(checkpoint.metadata["numbers"], numbers)
        assert checkpoint.metadata["again"] == words
        assert checkpoint.metadata["long"] == "é" * 1_500_000
        assert checkpoint.metadata["last"] == "end"


def test_a_vocabulary_without_tensors_opens(tmp_path: Path) -> None:
    raw = RawGguf(pairs=[pair("tokenizer.ggml.tokens", ARRAY, array(STRING, 1, text("a")))])
    with open_gguf(raw.write(tmp_path)) as checkpoint:
        assert dict(checkpoint.tensors) == {}


def test_a_part_of_a_tensor_can_be_read(tmp_path: Path) -> None:
    raw = valid(random.Random(3))
    with open_gguf(raw.write(tmp_path)) as checkpoint:
        tensor = list(checkpoint.tensors.values())[-1]
        out = np.empty(12, np.uint8)
        checkpoint.read(tensor, out, 8)
        assert out.tobytes() == read_all(checkpoint, tensor.name)[8:20]


def test_a_file_that_became_shorter_is_noticed_when_reading(tmp_path: Path) -> None:
    path = valid(random.Random(3)).write(tmp_path)
    with open_gguf(path) as checkpoint:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 4)
        with pytest.raises(Truncated):
            read_all(checkpoint, list(checkpoint.tensors)[-1])


def test_reading_after_closing_is_a_fault(tmp_path: Path) -> None:
    checkpoint = open_gguf(valid(random.Random(3)).write(tmp_path))
    checkpoint.close()
    checkpoint.close()
    with pytest.raises(DiskFault):
        read_all(checkpoint, "blk.0.weight")


@pytest.mark.parametrize("fault", [Fault.IO_ERROR, Fault.VANISHED, Fault.SHORT, Fault.INTERRUPTED])
def test_every_disk_call_may_fail(fault: Fault) -> None:
    disk, path = disk_with("m.gguf", gguf_seeds()["vocabulary"])
    expected = {name: read_all(open_gguf(path, disk), name) for name in open_gguf(path, disk).tensors}
    failures = 0
    for number in range(100):
        plan = NthCall(number, fault)
        try:
            with open_gguf(path, FaultyDisk(disk, plan, VirtualClock())) as checkpoint:
                assert {name: read_all(checkpoint, name) for name in checkpoint.tensors} == expected
        except ApportionError as error:
            assert isinstance(error, DiskFault | NotFound)
            failures += 1
        if not plan.broken:
            break
    assert number >= 2
    assert failures == (number if fault in (Fault.IO_ERROR, Fault.VANISHED) else 0)


def test_the_largest_vocabularies_open_quickly(tmp_path: Path) -> None:
    tokens = [f"▁token{i}" for i in range(262_144)]
    values = array(STRING, len(tokens), b"".join(map(text, tokens)))
    path = RawGguf(pairs=[pair("tokenizer.ggml.tokens", ARRAY, values)]).write(tmp_path)
    best = 10.0
    for _ in range(3):
        start = time.process_time()
        with open_gguf(path) as checkpoint:
            assert checkpoint.metadata["tokenizer.ggml.tokens"] == tokens
        best = min(best, time.process_time() - start)
    assert best < 1.0, best


def test_the_disk_of_the_caller_is_used() -> None:
    disk = VirtualDisk()
    with disk.open("/m.gguf", "create") as file:
        write_all(file, gguf_seeds()["weights"], 0)
    with open_gguf("/m.gguf", disk) as checkpoint:
        assert len(checkpoint.tensors) == 3
