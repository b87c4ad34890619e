"""Recorded routes are those that the model takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_model

from apportion.core.errors import Unsupported
from apportion.formats.routes import Routes, RoutesFile, RoutesShape, RoutesWriter
from apportion.kernels import NativeOps, ReferenceOps
from apportion.models import Model
from apportion.models.weights import MoeWeights
from apportion.simulate import record
from apportion.simulate.record import record_routes, shape_of, windows_of

IDS = np.random.default_rng(5).integers(0, 300, 40).astype(np.int32)
WITH_EXPERTS = [name for name in IN_GGUF if "moe" in name or name.startswith(("mixtral", "deepseek2"))]


def recorded(
    model: Model, path: Path, windows: list[np.ndarray], inputs: bool = True
) -> tuple[RoutesShape, Routes]:
    shape = shape_of(model, "tiny", inputs)
    with RoutesWriter(path / "x.routes", shape) as writer:
        record_routes(model, windows, writer)
    with RoutesFile(path / "x.routes") as file:
        return file.shape, file.read(0, file.num_tokens)


@pytest.mark.parametrize("name", WITH_EXPERTS)
def test_routes_are_what_the_router_makes_of_its_inputs(name: str, tmp_path: Path) -> None:
    model = tiny_model(name, tmp_path)
    shape, routes = recorded(model, tmp_path, [IDS])
    experts = model.config.experts
    assert experts is not None
    assert routes.experts.shape == (40, sum(experts.layers), experts.routing.top_k)
    assert routes.inputs is not None
    assert routes.gates is not None
    for place, layer in enumerate(shape.layers):
        weights = model.weights.layers[layer].feed_forward
        assert isinstance(weights, MoeWeights)
        seen = routes.inputs[:, place].astype(np.float32)
        scores = model.ops.linear(seen, weights.router, weights.router_bias)
        ids, gates = model.ops.route(scores, experts.routing, weights.choice_bias)
        same = np.sort(ids, axis=-1) == np.sort(routes.experts[:, place], axis=-1)
        assert same.all(axis=-1).mean() > 0.9  # inputs are rounded: near ties may fall otherwise
        np.testing.assert_allclose(
            np.sort(gates)[same.all(axis=-1)], np.sort(routes.gates[:, place])[same.all(axis=-1)], atol=5e-3
        )


def test_the_strongest_choice_stands_first(tmp_path: Path) -> None:
    _, routes = recorded(tiny_model("qwen3moe", tmp_path), tmp_path, [IDS])
    assert routes.gates is not None
    assert (np.diff(routes.gates.astype(np.float32), axis=-1) <= 0).all()


def test_the_core_and_the_reference_take_the_same_routes(tmp_path: Path) -> None:
    models = [tiny_model("qwen3moe", tmp_path, ops) for ops in (ReferenceOps(), NativeOps(threads=1))]
    reference, core = (recorded(model, tmp_path, [IDS], inputs=False)[1].experts for model in models)
    assert (np.sort(reference) == np.sort(core)).mean() > 0.98


def test_how_a_text_is_cut_into_passes_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("mixtral", tmp_path)
    _, whole = recorded(model, tmp_path, [IDS])
    monkeypatch.setattr(record, "HELD_NBYTES", 7 * (whole_record(model) + 4 * 64))
    _, pieces = recorded(model, tmp_path, [IDS])
    assert (whole.experts == pieces.experts).mean() > 0.98


def whole_record(model: Model) -> int:
    return shape_of(model, "tiny", inputs=True).record.itemsize


def test_what_a_pass_holds_is_bounded_and_a_token_passes_in_any_case(tmp_path: Path) -> None:
    model = tiny_model("mixtral", tmp_path)
    small, large = shape_of(model, "tiny", inputs=False), RoutesShape("x", (0,), 4, 2, hidden=1 << 17)
    wide = RoutesShape("x", tuple(range(64)), 4, 2, hidden=1 << 17)
    assert [record.tokens_per_pass(model, shape) for shape in (small, large, wide)] == [256, 3, 1]


def test_each_window_begins_anew(tmp_path: Path) -> None:
    model = tiny_model("mixtral", tmp_path)
    _, once = recorded(model, tmp_path, [IDS[:9]])
    _, twice = recorded(model, tmp_path, [IDS[:9], IDS[:9]])
    np.testing.assert_array_equal(twice.experts, np.concatenate([once.experts, once.experts]))


def test_being_observed_leaves_the_cache_as_a_plain_pass_does(tmp_path: Path) -> None:
    model = tiny_model("mixtral", tmp_path, NativeOps(threads=1))
    plain, observed = model.new_cache(40), model.new_cache(40)
    model.forward(IDS[:30], plain)
    model.forward_observed(IDS[:30], observed, lambda *_: None)
    assert observed.length == 30
    np.testing.assert_array_equal(model.forward(IDS[30:], plain), model.forward(IDS[30:], observed))


def test_layers_without_experts_are_left_out(tmp_path: Path) -> None:
    shape, _ = recorded(tiny_model("deepseek2", tmp_path), tmp_path, [IDS[:3]], inputs=False)
    assert shape.layers[0] == 1
    assert shape.gates
    assert not shape.hidden


def test_a_model_without_experts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has no experts"):
        shape_of(tiny_model("llama", tmp_path), "llama", inputs=False)


def test_windows_begin_with_bos_where_the_model_has_one() -> None:
    assert [window.tolist() for window in windows_of([1, 2, 3, 4, 5], 3, 9)] == [[9, 1, 2], [9, 3, 4], [9, 5]]
    assert [window.tolist() for window in windows_of([1, 2, 3, 4], 3, None)] == [[1, 2, 3], [4]]
