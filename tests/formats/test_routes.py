"""Routes files: what is written is read, a killed writer's file too, and no file is trusted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.formats.test_mutations import mutated
from tests.fuzz.fuzz_seeds import disk_with, routes_seeds

from apportion.core.errors import ApportionError, BadFile, LimitExceeded, NotFound, Truncated, Unsupported
from apportion.formats.routes import Routes, RoutesFile, RoutesShape, RoutesWriter

SHAPE = RoutesShape("tiny", (1, 2, 5), num_experts=8, top_k=2, gates=True, hidden=4)


def random_routes(shape: RoutesShape, num_tokens: int, seed: int = 0) -> Routes:
    rng = np.random.default_rng(seed)
    size = (num_tokens, len(shape.layers), shape.num_experts)
    experts = np.argsort(rng.random(size), axis=-1)[..., : shape.top_k]
    gates = rng.random(experts.shape).astype(np.float16) if shape.gates else None
    inputs = rng.standard_normal((*size[:2], shape.hidden)).astype(np.float16) if shape.hidden else None
    return Routes(experts.astype(np.uint16), gates, inputs)


def write(path: Path, shape: RoutesShape, routes: Routes) -> None:
    with RoutesWriter(path, shape) as writer:
        writer.append(routes.experts, routes.gates, routes.inputs)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.routes"
    write(path, SHAPE, random_routes(SHAPE, 10))
    return path


@given(
    st.builds(
        RoutesShape,
        st.text(max_size=8),
        st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(lambda x: tuple(sorted(x))),
        st.sampled_from([3, 256, 257, 65536]),
        st.integers(1, 3),
        st.booleans(),
        st.integers(0, 5),
    ),
    st.integers(0, 6),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, shape: RoutesShape, n: int
) -> None:
    path = tmp_path_factory.mktemp("routes") / "x"
    routes = random_routes(shape, n)
    write(path, shape, routes)
    with RoutesFile(path) as file:
        assert (file.shape, file.num_tokens, file.num_cut_bytes) == (shape, n, 0)
        found = file.read(0, n)
        for mine, theirs in (
            (routes.experts, found.experts),
            (routes.gates, found.gates),
            (routes.inputs, found.inputs),
        ):
            assert (mine is None) == (theirs is None)
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(file.experts(), routes.experts)


def test_tokens_are_read_from_the_middle_too(path: Path) -> None:
    with RoutesFile(path) as file:
        routes = random_routes(SHAPE, 10)
        np.testing.assert_array_equal(file.read(3, 7).experts, routes.experts[3:7])
        np.testing.assert_array_equal(file.read(3, 7).inputs, routes.inputs[3:7])


def test_ids_are_read_piece_by_piece(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apportion.formats.routes.CHUNK_NBYTES", 3 * SHAPE.record.itemsize)
    with RoutesFile(path) as file:
        np.testing.assert_array_equal(file.experts(), random_routes(SHAPE, 10).experts)


WRITES = """
import sys, numpy as np
from apportion.formats.routes import RoutesShape, RoutesWriter
writer = RoutesWriter(sys.argv[1], RoutesShape("killed", (0, 1), 8, 2))
for token in range(10**9):
    writer.append(np.full((1, 2, 2), [token % 8, (token + 1) % 8]))
    if token == 99:
        print("under way", flush=True)
"""


def test_the_file_of_a_killed_writer_is_read(tmp_path: Path) -> None:
    path = tmp_path / "killed.routes"
    with subprocess.Popen([sys.executable, "-c", WRITES, str(path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    with RoutesFile(path) as file:
        assert file.num_tokens >= 100
        experts = file.experts()
    assert experts[99].tolist() == [[3, 4], [3, 4]]


def test_a_record_that_is_cut_off_is_passed_over(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)
    with RoutesFile(path) as file:
        assert file.num_tokens == 9
        assert file.num_cut_bytes == SHAPE.record.itemsize - 5
        np.testing.assert_array_equal(file.experts(), random_routes(SHAPE, 10).experts[:9])


def test_every_cut_inside_the_header_is_told(path: Path) -> None:
    data = path.read_bytes()
    for nbytes in range(len(data) - 10 * SHAPE.record.itemsize):
        path.write_bytes(data[:nbytes])
        with pytest.raises(Truncated, match="ends inside its header"):
            RoutesFile(path)


def header(**changes: Any) -> bytes:
    values = {"model": "m", "layers": [0], "num_experts": 8, "top_k": 2, "gates": False, "hidden": 0}
    text = json.dumps({k: v for k, v in {**values, **changes}.items() if v != "left out"}).encode()
    return b"APROUTES" + (1).to_bytes(4, "little") + len(text).to_bytes(4, "little") + text


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"GGUFxxxx" + bytes(8), BadFile, "is not a routes file"),
        (b"APROUTES\2\0\0\0\2\0\0\0{}", Unsupported, "version 2"),
        (b"APROUTES\1\0\0\0\xff\xff\xff\xff{}", LimitExceeded, "header of bad is too large"),
        (b"APROUTES\1\0\0\0\4\0\0\0{}", Truncated, "ends inside its header"),
        (b"APROUTES\1\0\0\0\2\0\0\0[]", BadFile, "must be an object of"),
        (b"APROUTES\1\0\0\0\2\0\0\0{'", BadFile, "not valid JSON"),
        (header(model=3), BadFile, "model is text"),
        (header(gates=1), BadFile, "true or false"),
        (header(hidden="left out"), BadFile, "must be an object of"),
        (header(tokens=1), BadFile, "must be an object of"),
        (header(layers=[]), BadFile, "layers is a list"),
        (header(layers=7), BadFile, "layers is a list"),
        (header(layers=[1, 1]), BadFile, "numbers that rise"),
        (header(layers=[2, 1]), BadFile, "numbers that rise"),
        (header(layers=[-1]), BadFile, "numbers that rise"),
        (header(layers=[True]), BadFile, "numbers that rise"),
        (header(layers=[[1]]), LimitExceeded, "nested too deep"),
        (header(layers=["a"]), BadFile, "numbers that rise"),
        (header(layers=list(range(5000))), BadFile, "list of 1 to 4096"),
        (header(num_experts=0), BadFile, "num_experts is"),
        (header(num_experts=1 << 40), BadFile, "num_experts is"),
        (header(num_experts=8.0), BadFile, "num_experts is"),
        (header(top_k=9), BadFile, "top_k is"),
        (header(top_k=0), BadFile, "top_k is"),
        (header(hidden=-1), BadFile, "hidden is"),
        (header(hidden=1 << 50), BadFile, "hidden is"),
        (header(hidden=1 << 17, layers=list(range(4000))), BadFile, "a token would take"),
        (header(num_experts=65536, top_k=65536, layers=list(range(4000))), BadFile, "a token would take"),
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, data: bytes, error: type[ApportionError], says: str) -> None:
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(error, match=says):
        RoutesFile(tmp_path / "bad")


@pytest.mark.parametrize(
    ("ids", "says"), [([7, 8], "does not have.*token=1, layer=0"), ([3, 3], "names an expert twice")]
)
def test_ids_that_no_model_could_choose_are_refused(tmp_path: Path, ids: list[int], says: str) -> None:
    (tmp_path / "bad").write_bytes(header() + bytes([0, 1]) + bytes(ids))
    with RoutesFile(tmp_path / "bad") as file, pytest.raises(BadFile, match=says):
        file.experts()


def test_a_missing_file_and_a_folder_are_errors_of_ours(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        RoutesFile(tmp_path / "none")
    with pytest.raises(BadFile, match="not a file"):
        RoutesFile(tmp_path)


@pytest.mark.parametrize("seed", routes_seeds())
def test_a_mutated_file_is_read_or_refused(seed: str) -> None:
    data, rng = routes_seeds()[seed], Random(seed)
    num_read = 0
    for _ in range(400):
        disk, name = disk_with("x.routes", mutated(data, rng))
        try:
            with RoutesFile(name, disk) as file:
                file.experts()
            num_read += 1
        except ApportionError as error:
            assert str(error)
    assert 0 < num_read < 400
