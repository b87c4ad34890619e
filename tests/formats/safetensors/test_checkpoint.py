"""Opening model folders: one file, shards, links of the hub's cache, number types."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.fuzz.fuzz_seeds import safetensors_bytes, safetensors_seeds

from apportion.core.errors import NotFound, Unsupported
from apportion.formats import open_checkpoint
from apportion.formats.opened import OpenedFiles
from apportion.formats.safetensors.dtypes import DTYPES


def folder_with(folder: Path, **files: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(b'{"model_type": "llama"}')
    for name, data in files.items():
        (folder / name.replace("__", ".").replace("_dash_", "-")).write_bytes(data)
    return folder


def one(name: str, value: float) -> bytes:
    header = {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    return safetensors_bytes(header, np.full(2, value, np.float32).tobytes())


def numbers(checkpoint: OpenedFiles, name: str) -> list[float]:
    tensor = checkpoint.tensors[name]
    out = np.empty(tensor.nbytes, np.uint8)
    checkpoint.read(tensor, out)
    return [float(x) for x in tensor.format.dequantize(out)]


def sharded(folder: Path) -> Path:
    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    folder_with(folder)
    for value, (tensor, name) in enumerate(names.items()):
        (folder / name).write_bytes(one(tensor, value))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def test_a_folder_with_one_file_opens(tmp_path: Path) -> None:
    with open_checkpoint(folder_with(tmp_path, model__safetensors=one("a", 3))) as checkpoint:
        assert checkpoint.kind == "safetensors"
        assert checkpoint.metadata == {"model_type": "llama"}
        assert numbers(checkpoint, "a") == [3, 3]


@pytest.mark.parametrize("through", ["", "model-00002-of-00002.safetensors"])
def test_shards_open_through_the_folder_or_any_of_them(tmp_path: Path, through: str) -> None:
    with open_checkpoint(sharded(tmp_path) / through) as checkpoint:
        assert len(checkpoint.files) == 2
        assert numbers(checkpoint, "a") == [0, 0]
        assert numbers(checkpoint, "b") == [1, 1]


def test_a_file_opens_by_its_path_when_the_configuration_lies_beside_it(tmp_path: Path) -> None:
    folder_with(tmp_path, model__safetensors=one("a", 1), other__safetensors=one("b", 2))
    with open_checkpoint(tmp_path / "other.safetensors") as checkpoint:
        assert list(checkpoint.tensors) == ["b"]


def test_the_only_file_of_a_folder_needs_no_special_name(tmp_path: Path) -> None:
    with open_checkpoint(folder_with(tmp_path, weights__safetensors=one("a", 1))) as checkpoint:
        assert list(checkpoint.tensors) == ["a"]


def test_several_files_without_an_index_are_refused(tmp_path: Path) -> None:
    folder_with(tmp_path, a__safetensors=one("a", 1), b__safetensors=one("b", 2))
    with pytest.raises(NotFound, match=r"2 other \.safetensors files"):
        open_checkpoint(tmp_path)


def test_a_folder_of_other_files_tells_what_is_read(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="GGUF and safetensors"):
        open_checkpoint(folder_with(tmp_path, pytorch_model__bin=b"x"))


def test_a_snapshot_of_the_hub_cache_is_read_in_place(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "rev"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "b1").write_bytes(one("a", 5))
    (blobs / "b2").write_bytes(b"{}")
    (snapshot / "model.safetensors").symlink_to("../../blobs/b1")
    (snapshot / "config.json").symlink_to("../../blobs/b2")
    with open_checkpoint(snapshot) as checkpoint:
        assert numbers(checkpoint, "a") == [5, 5]


@pytest.mark.parametrize("seed", safetensors_seeds())
def test_valid_files_open(tmp_path: Path, seed: str) -> None:
    with open_checkpoint(folder_with(tmp_path, model__safetensors=safetensors_seeds()[seed])) as checkpoint:
        assert sum(tensor.nbytes for tensor in checkpoint.tensors.values()) >= 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_known_number_type_is_listed(tmp_path: Path, dtype: str) -> None:
    block_format = DTYPES[dtype]
    columns = block_format.block_size
    nbytes = block_format.block_nbytes
    header = {"t": {"dtype": dtype, "shape": [3, columns], "data_offsets": [0, 3 * nbytes]}}
    folder_with(tmp_path, model__safetensors=safetensors_bytes(header, bytes(3 * nbytes)))
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors["t"].nbytes == 3 * nbytes
        if dtype.startswith("F8") or dtype == "F4":
            with pytest.raises(Unsupported):
                numbers(checkpoint, "t")
        else:
            assert numbers(checkpoint, "t") == [0] * 3
