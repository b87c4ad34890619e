"""Routes that others recorded become routes files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.routes_from_arrays import convert

from apportion.core.errors import BadFile
from apportion.formats.routes import RoutesFile, RoutesShape


def test_arrays_follow_one_another(tmp_path: Path) -> None:
    first, second = np.array([[[0, 1], [2, 3]]]), np.array([[[3, 2], [1, 0]]])
    np.savez(tmp_path / "x.npz", a_experts=first, b_experts=second, a_gate=np.zeros(3))
    assert convert(tmp_path / "x.npz", tmp_path / "x.routes", "tiny", 4, first_layer=1) == 0
    with RoutesFile(tmp_path / "x.routes") as file:
        assert file.shape == RoutesShape("tiny", (1, 2), 4, 2)
        assert file.experts().tolist() == [*first.tolist(), *second.tolist()]


def test_a_single_layer_needs_no_axis_of_its_own(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", experts=np.array([[0, 1], [2, 3]]))
    convert(tmp_path / "x.npz", tmp_path / "x.routes", "tiny", 4)
    with RoutesFile(tmp_path / "x.routes") as file:
        assert file.experts().tolist() == [[[0, 1]], [[2, 3]]]


def test_a_choice_that_was_not_recorded_is_one_of_the_token_before(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", experts=np.array([[0, -1], [3, 2], [2, -1], [-1, -1]]))
    assert convert(tmp_path / "x.npz", tmp_path / "x.routes", "tiny", 4) == 4
    with RoutesFile(tmp_path / "x.routes") as file:
        assert file.experts()[:, 0].tolist() == [[0, 1], [3, 2], [2, 3], [2, 3]]


@pytest.mark.parametrize(
    "arrays", [{}, {"a": np.zeros((2, 2))}, {"experts": np.zeros((2, 2)), "b_experts": np.zeros((2, 3))}]
)
def test_a_file_without_routes_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(BadFile, match="holds no arrays of routes"):
        convert(tmp_path / "x.npz", tmp_path / "x.routes", "tiny", 4)


@pytest.mark.parametrize(
    ("name", "num_experts", "shape"),
    [
        ("mixtral8x7b/mixtral8x7b_instruct_routes", 8, (585, 32, 2)),
        ("qwen3_30b/no_robots_00535_decode", 128, (68, 48, 8)),
        ("granite1b/coding01_decode", 32, (16, 24, 8)),
        ("olmoe_layer0/kaxit", 64, (4471, 1, 8)),
        ("qwen15moe_layer0/kennethwang", 60, (4384, 1, 4)),
    ],
)
def test_real_routes_convert_whole(
    shared_data: Path, tmp_path: Path, name: str, num_experts: int, shape: tuple[int, int, int]
) -> None:
    convert(shared_data / "moe_routes_full" / f"{name}.npz", tmp_path / "x.routes", name, num_experts)
    with RoutesFile(tmp_path / "x.routes") as file:
        assert file.experts().shape == shape
