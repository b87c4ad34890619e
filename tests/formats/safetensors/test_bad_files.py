"""Every way in which a safetensors file or folder can be bad that we know of: an error of ours, at once."""

from __future__ import annotations

import json
import os
import random
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from apportion.core.errors import ApportionError, BadFile, LimitExceeded, NotFound, Truncated, Unsupported
from apportion.formats.safetensors import open_safetensors

SEEDS = range(8)
HUGE = [1 << 31, 1 << 40, (1 << 63) - 1]


@dataclass
class RawFolder:
    """A valid folder with one file of tensors; change any part, then `write`."""

    header: dict[str, Any] = field(default_factory=dict)
    data: bytes = b""
    text: bytes | None = None
    length: int | None = None
    config: bytes | None = b'{"model_type": "llama"}'
    index: bytes | None = None
    name: str = "model.safetensors"
    cut: int | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def build(self) -> bytes:
        text = json.dumps(self.header).encode() if self.text is None else self.text
        length = len(text) if self.length is None else self.length
        return (length.to_bytes(8, "little") + text + self.data)[: self.cut]

    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        files = {self.name: self.build(), "config.json": self.config, **self.files}
        files["model.safetensors.index.json"] = self.index
        for name, data in files.items():
            if data is not None and name not in self.links:
                (folder / name).write_bytes(data)
        for name, target in self.links.items():
            (folder / name).symlink_to(target)
        return folder


def valid(rng: random.Random) -> RawFolder:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}} if rng.random() < 0.5 else {}
    offset = 0
    for index in range(rng.randint(2, 4)):
        dtype, size = rng.choice([("F32", 4), ("BF16", 2), ("U8", 1)])
        shape = [rng.randint(1, 4) for _ in range(rng.randint(0, 3))]
        nbytes = size
        for dim in shape:
            nbytes *= dim
        header[f"t{index}"] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    return RawFolder(header, rng.randbytes(offset))


Change = Callable[[RawFolder, random.Random], None]
ERRORS: dict[str, type[ApportionError]] = {}
CHANGES: dict[str, Change] = {}


def kind(error: type[ApportionError]) -> Callable[[Change], Change]:
    """Register one way of being bad with the error that it must meet."""

    def register(change: Change) -> Change:
        CHANGES[change.__name__], ERRORS[change.__name__] = change, error
        return change

    return register


@kind(Truncated)
def file_is_shorter_than_its_length_field(raw: RawFolder, rng: random.Random) -> None:
    raw.cut = rng.randint(0, 7)


@kind(Truncated)
def file_ends_inside_the_header(raw: RawFolder, rng: random.Random) -> None:
    raw.cut = rng.randint(8, len(raw.build()) - len(raw.data) - 1)


@kind(Truncated)
def file_ends_inside_the_data(raw: RawFolder, rng: random.Random) -> None:
    raw.data = raw.data[: rng.randrange(len(raw.data))]


@kind(LimitExceeded)
def header_length_is_2_to_the_63(raw: RawFolder, rng: random.Random) -> None:
    raw.length = rng.choice([1 << 63, (1 << 64) - 1, (1 << 64) - 8])


@kind(LimitExceeded)
def header_is_one_byte_over_its_limit(raw: RawFolder, rng: random.Random) -> None:
    raw.length = 100_000_001


@kind(BadFile)
def header_is_empty(raw: RawFolder, rng: random.Random) -> None:
    raw.text = b""


@kind(BadFile)
def header_does_not_begin_with_a_brace(raw: RawFolder, rng: random.Random) -> None:
    raw.text = rng.choice([b" ", b"\n", b"[", b"\0", b"null "]) + json.dumps(raw.header).encode()


@kind(BadFile)
def header_begins_with_a_byte_order_mark(raw: RawFolder, rng: random.Random) -> None:
    raw.text = b"\xef\xbb\xbf" + json.dumps(raw.header).encode()


@kind(BadFile)
def header_is_not_utf8(raw: RawFolder, rng: random.Random) -> None:
    raw.text = json.dumps(raw.header).encode().replace(b'"t0"', rng.choice([b'"\xff"', b'"\xed\xa0\x80"']))


@kind(BadFile)
def header_is_no_json(raw: RawFolder, rng: random.Random) -> None:
    text = json.dumps(raw.header).encode()
    raw.text = rng.choice([text[:-1], text + b"}", text.replace(b":", b"", 1), b"{,}", b'{"a'])


@kind(LimitExceeded)
def header_is_nested_deep(raw: RawFolder, rng: random.Random) -> None:
    depth = rng.choice([4, 1000, 100_000])
    raw.text = b'{"a":' + b"[" * depth + b"]" * depth + b"}"


@kind(LimitExceeded)
def header_is_nested_deep_and_unclosed(raw: RawFolder, rng: random.Random) -> None:
    raw.text = b'{"a":' * rng.choice([100, 100_000])


@kind(BadFile)
def tensor_stands_twice(raw: RawFolder, rng: random.Random) -> None:
    text = json.dumps(raw.header).encode()
    raw.text = text.replace(b'"t1"', b'"t0"')


@kind(BadFile)
def metadata_is_no_text(raw: RawFolder, rng: random.Random) -> None:
    raw.header["__metadata__"] = rng.choice([1, [], "x", {"a": 1}, {"a": None}, {"a": ["b"]}])


@kind(BadFile)
def entry_is_no_object(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"] = rng.choice([None, 1, "F32", [], True])


@kind(BadFile)
def entry_lacks_a_field(raw: RawFolder, rng: random.Random) -> None:
    del raw.header["t0"][rng.choice(["dtype", "shape", "data_offsets"])]


@kind(Unsupported)
def dtype_is_unknown(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["dtype"] = rng.choice(["F31", "f32", "", "Q4_0", "\u202e"])


@kind(BadFile)
def dtype_is_no_text(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["dtype"] = rng.choice([1, None, ["F32"], {}])


@kind(BadFile)
def shape_has_a_negative_number(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["shape"] = rng.choice([[-1], [-2, -2], [1, -1]])


@kind(BadFile)
def shape_has_something_else_than_integers(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["shape"] = rng.choice([[1.0], [True], ["1"], [[1]], 4, None, {}])


@kind(BadFile)
def shape_wraps(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["shape"] = rng.choice([[1 << 32, 1 << 32], [1 << 62, 4], [1 << 63, 2], [1 << 64]])


@kind(BadFile)
def shape_has_too_many_dimensions(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["shape"] = [1] * rng.choice([9, 10_000])


@kind(BadFile)
def shape_does_not_fill_its_bytes(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["shape"] = [*raw.header["t0"]["shape"], rng.choice([0, 2, 7, 1 << 31])]


@kind(BadFile)
def numbers_are_not_finite(raw: RawFolder, rng: random.Random) -> None:
    value = rng.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
    raw.text = json.dumps(raw.header | {"x": 1}).encode().replace(b'"x": 1', b'"x": ' + value)


@kind(BadFile)
def number_has_a_million_digits(raw: RawFolder, rng: random.Random) -> None:
    raw.text = json.dumps(raw.header | {"x": 1}).encode().replace(b'"x": 1', b'"x": ' + b"9" * 1_000_000)


@kind(BadFile)
def offsets_are_no_pair(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t0"]["data_offsets"] = rng.choice([[], [0], [0, 1, 2], None, "0,4", [0.0, 4.0], [None, None]])


@kind(BadFile)
def offsets_run_backwards(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t1"]["data_offsets"].reverse()


@kind(BadFile)
def offsets_are_huge(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t1"]["data_offsets"] = rng.choice([[0, rng.choice(HUGE)], [1 << 64, (1 << 64) + 4], [-4, 0]])


@kind(Truncated)
def tensor_reaches_past_the_end(raw: RawFolder, rng: random.Random) -> None:
    start, stop = raw.header["t1"]["data_offsets"]
    raw.header["t1"]["data_offsets"] = [start + rng.choice(HUGE[:2]), stop]
    raw.header["t1"]["data_offsets"][1] = raw.header["t1"]["data_offsets"][0] + stop - start


@kind(BadFile)
def tensors_leave_a_gap(raw: RawFolder, rng: random.Random) -> None:
    gap = rng.randint(1, 64)
    for name, entry in raw.header.items():
        if name != "t0" and name != "__metadata__":
            entry["data_offsets"] = [offset + gap for offset in entry["data_offsets"]]
    raw.data += bytes(gap)


@kind(BadFile)
def tensors_overlap(raw: RawFolder, rng: random.Random) -> None:
    raw.header["t9"] = dict(raw.header["t0"])


@kind(BadFile)
def bytes_follow_the_last_tensor(raw: RawFolder, rng: random.Random) -> None:
    raw.data += bytes(rng.randint(1, 100))


@kind(BadFile)
def name_looks_like_a_path(raw: RawFolder, rng: random.Random) -> None:
    raw.header = {
        rng.choice(["../t", "/t", "a/../b", ""]) if k == "t0" else k: v for k, v in raw.header.items()
    }


@kind(BadFile)
def name_has_control_characters(raw: RawFolder, rng: random.Random) -> None:
    bad = rng.choice(["t\0", "\x1b[2J", "\u202e", "\ud800", "t\n"])
    raw.header = {bad if key == "t0" else key: value for key, value in raw.header.items()}


@kind(BadFile)
def name_is_ten_thousand_characters(raw: RawFolder, rng: random.Random) -> None:
    raw.header = {"n" * 10_000 if key == "t0" else key: value for key, value in raw.header.items()}


def sharded(raw: RawFolder, weight_map: object) -> None:
    raw.name = "model-00001-of-00001.safetensors"
    raw.index = json.dumps({"weight_map": weight_map}).encode()


@kind(BadFile)
def index_points_outside(raw: RawFolder, rng: random.Random) -> None:
    name = rng.choice(["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..\\x.safetensors"])
    sharded(raw, {"t0": name})


@kind(BadFile)
def index_names_other_files(raw: RawFolder, rng: random.Random) -> None:
    sharded(
        raw, {"t0": rng.choice(["model.safetensors.index.json", "config.json", "x.bin", 7, None, [], {}])}
    )


@kind(NotFound)
def index_names_a_missing_shard(raw: RawFolder, rng: random.Random) -> None:
    sharded(
        raw,
        {"t0": raw.name, "t1": "model-00002-of-00002.safetensors"}
        | {"t0": "model-00001-of-00001.safetensors"},
    )


@kind(BadFile)
def index_claims_a_tensor_that_is_not_there(raw: RawFolder, rng: random.Random) -> None:
    sharded(raw, {"t0": "model-00001-of-00001.safetensors", "t77": "model-00001-of-00001.safetensors"})


@kind(BadFile)
def index_has_no_map(raw: RawFolder, rng: random.Random) -> None:
    sharded(raw, rng.choice([None, [], {}, "x", 1]))


@kind(BadFile)
def shards_repeat_a_tensor(raw: RawFolder, rng: random.Random) -> None:
    sharded(raw, {"t0": "model-00001-of-00001.safetensors", "t1": "other.safetensors"})
    raw.files["other.safetensors"] = raw.build()


@kind(BadFile)
def shard_is_a_link_out_of_the_folder(raw: RawFolder, rng: random.Random) -> None:
    raw.links["model.safetensors"] = rng.choice(["/etc/hostname", "../outside.safetensors", "/proc/self/mem"])


@kind(BadFile)
def shard_is_a_link_to_itself(raw: RawFolder, rng: random.Random) -> None:
    sharded(raw, {"t0": "a.safetensors"})
    raw.links |= {"a.safetensors": "b.safetensors", "b.safetensors": "a.safetensors"}


@kind(NotFound)
def config_is_missing(raw: RawFolder, rng: random.Random) -> None:
    raw.config = None


@kind(BadFile)
def config_is_no_object(raw: RawFolder, rng: random.Random) -> None:
    raw.config = rng.choice(
        [b"[]", b"1", b'"x"', b"null", b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b'{"a":NaN}']
    )


@kind(LimitExceeded)
def config_is_nested_deep(raw: RawFolder, rng: random.Random) -> None:
    depth = rng.choice([65, 100_000])
    raw.config = b'{"a":' * depth + b"1" + b"}" * depth


@kind(LimitExceeded)
def config_is_a_hundred_megabytes(raw: RawFolder, rng: random.Random) -> None:
    raw.config = b"{}"
    raw.files["config.json"] = b"{" + b" " * (16 << 20) + b"}"


@kind(BadFile)
def config_has_a_key_twice(raw: RawFolder, rng: random.Random) -> None:
    raw.config = b'{"hidden_size": 8, "hidden_size": 16}'


@pytest.mark.parametrize("name", CHANGES)
def test_bad_folder_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside.safetensors").write_bytes(valid(random.Random(0)).build())
    for seed in SEEDS:
        rng = random.Random(f"{name} {seed}")
        raw = valid(rng)
        CHANGES[name](raw, rng)
        refuse(raw.write(tmp_path / f"model{seed}"), ERRORS[name])


def refuse(folder: Path, error: type[ApportionError]) -> None:
    """Open a bad folder and check all that must hold of the failure."""
    num_open = len(os.listdir("/proc/self/fd"))
    size = sum(path.stat().st_size for path in folder.iterdir() if not path.is_symlink())
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(error) as failure:
            open_safetensors(folder)
        taken = time.process_time() - start
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert failure.type is error, failure.value
    assert taken < 1, taken
    assert peak < (2 << 20) + 20 * min(size, 2 << 20), peak
    assert len(os.listdir("/proc/self/fd")) <= num_open  # others may be collected meanwhile


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_folder_without_the_change_is_read(seed: int, tmp_path: Path) -> None:
    raw = valid(random.Random(seed))
    with open_safetensors(raw.write(tmp_path / "model")) as checkpoint:
        assert checkpoint.tensors.keys() == raw.header.keys() - {"__metadata__"}


def test_there_are_more_than_thirty_six_kinds() -> None:
    assert len(CHANGES) >= 36
