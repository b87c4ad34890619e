"""Valid files of the reference packages: we see the same names, shapes and bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from apportion.formats import open_checkpoint
from apportion.formats.opened import OpenedFiles

NUM_FILES = 100  # of each kind, in batches
BATCH = 20
TYPES = [
    gguf.GGMLQuantizationType[name]
    for name in ("F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0", "Q6_K", "IQ4_XS", "MXFP4")
]


def bytes_of(checkpoint: OpenedFiles, name: str) -> bytes:
    tensor = checkpoint.tensors[name]
    out = np.empty(tensor.nbytes, np.uint8)
    checkpoint.read(tensor, out)
    return out.tobytes()


def shape(rng: np.random.Generator, multiple: int) -> tuple[int, ...]:
    dims = rng.integers(1, 5, rng.integers(1, 4))
    return (*(int(d) for d in dims[:-1]), int(dims[-1]) * multiple)


def write_gguf_file(path: Path, rng: np.random.Generator) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("x.count", int(rng.integers(1 << 32)))
    writer.add_array("x.words", [f"word{i}" for i in range(rng.integers(1, 9))])
    writer.add_float64("x.float", float(rng.standard_normal()))
    if rng.random() < 0.5:
        writer.add_custom_alignment(int(rng.choice([64, 4096])))
    expected = {}
    for index in range(rng.integers(1, 5)):
        kind = TYPES[rng.integers(len(TYPES))]
        block_size, nbytes = gguf.GGML_QUANT_SIZES[kind]
        dims = shape(rng, block_size)
        rows = (*dims[:-1], dims[-1] // block_size * nbytes)
        data = rng.integers(0, 256, rows, np.uint8)
        if kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(f"t{index}", data.view(np.float32))
        else:
            writer.add_tensor(f"t{index}", data, raw_dtype=kind)
        expected[f"t{index}"] = (kind.name.lower(), dims, data.tobytes())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return expected


@pytest.mark.parametrize("batch", range(NUM_FILES // BATCH))
def test_gguf_files_of_the_gguf_package(tmp_path: Path, batch: int) -> None:
    for number in range(BATCH):
        path = tmp_path / f"{number}.gguf"
        expected = write_gguf_file(path, np.random.default_rng([batch, number]))
        fields = gguf.GGUFReader(path).fields
        with open_checkpoint(path) as checkpoint:
            found = {
                name: (info.format.name, info.shape, bytes_of(checkpoint, name))
                for name, info in checkpoint.tensors.items()
            }
            assert found == expected
            for key, value in checkpoint.metadata.items():
                assert fields[key].contents() == value


@pytest.mark.parametrize("batch", range(NUM_FILES // BATCH))
def test_safetensors_files_of_the_safetensors_package(tmp_path: Path, batch: int) -> None:
    (tmp_path / "config.json").write_text("{}")
    dtypes = ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u1", "?"]
    for number in range(BATCH):
        rng = np.random.default_rng([batch, number])
        arrays = {}
        for index in range(rng.integers(1, 6)):
            values = rng.integers(0, 2, shape(rng, 1)).astype(dtypes[rng.integers(len(dtypes))])
            arrays[f"model.{index}.weight"] = values if index else values.reshape(-1)[:1].reshape(())
        save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "np"})
        with open_checkpoint(tmp_path) as checkpoint:
            assert checkpoint.tensors.keys() == arrays.keys()
            for name, values in arrays.items():
                info = checkpoint.tensors[name]
                assert info.shape == values.shape
                assert bytes_of(checkpoint, name) == values.tobytes()
                flat = info.format.dequantize(np.frombuffer(values.tobytes(), np.uint8))
                assert np.array_equal(flat, values.astype(np.float32).reshape(-1))
