"""Routes in place of the router's: which token's are given when, and for which models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench.routes import RoutesReplay, replay_of
from apportion.core.errors import UsageError
from apportion.formats import open_checkpoint
from apportion.formats.routes import RoutesFile, RoutesShape, RoutesWriter
from apportion.models import config_from_checkpoint
from apportion.models.units import model_units

LAYERS = (1, 3)
# Token t uses experts 10 t and 10 t + 1 in layer 1, and one more each in layer 3.
EXPERTS = np.array([[[10 * t + at, 10 * t + at + 1] for at in (0, 1)] for t in range(5)], np.uint8)


def passed(replay: RoutesReplay, *counts: int) -> list[list[int]]:
    """Which tokens each pass of so many got in both layers."""
    found = []
    for count in counts:
        asked = np.zeros((count, 2), np.int32)
        first, last = (replay(layer, asked) for layer in LAYERS)
        assert first.dtype == np.int32
        np.testing.assert_array_equal(first + 1, last)
        found.append((first[:, 0] // 10).tolist())
    return found


@pytest.fixture
def replay() -> RoutesReplay:
    return RoutesReplay(EXPERTS, LAYERS)


def test_an_answer_takes_token_after_token_and_begins_anew_at_the_end(replay: RoutesReplay) -> None:
    assert passed(replay, 1, 1, 1, 1, 1, 1, 1) == [[0], [1], [2], [3], [4], [0], [1]]


def test_a_prompt_takes_the_first_tokens_also_in_several_passes(replay: RoutesReplay) -> None:
    for _ in range(2):
        replay.begin("prefill")
        assert passed(replay, 3, 2) == [[0, 1, 2], [3, 4]]


def test_a_prompt_longer_than_the_file_begins_anew(replay: RoutesReplay) -> None:
    replay.begin("prefill")
    assert passed(replay, 7) == [[0, 1, 2, 3, 4, 0, 1]]


def test_answers_go_on_where_the_last_one_stopped_whatever_was_read_between(replay: RoutesReplay) -> None:
    replay.begin("decode")
    assert passed(replay, 1, 1) == [[0], [1]]
    replay.begin("prefill")
    passed(replay, 4)
    replay.begin("prefill")
    passed(replay, 4)
    replay.begin("decode")
    assert passed(replay, 1) == [[2]]
    replay.begin("decode")
    assert passed(replay, 1) == [[3]]


def test_layers_that_never_ask_do_not_matter(replay: RoutesReplay) -> None:
    asked = np.zeros((1, 2), np.int32)
    assert [replay(3, asked)[0, 0] for _ in range(3)] == [1, 11, 21]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tiny_gguf(name, tmp_path_factory.mktemp(name)) for name in ("olmoe", "llama")}


def replay_for(model: Path, path: Path, tokens: int) -> RoutesReplay:
    with open_checkpoint(model) as checkpoint, RoutesFile(path) as routes:
        config = config_from_checkpoint(checkpoint)
        return replay_of(routes, config, model_units(config, checkpoint.tensors), tokens)


def write(path: Path, shape: RoutesShape, tokens: int) -> Path:
    experts = np.arange(shape.top_k)[None, None].repeat(len(shape.layers), axis=1).repeat(tokens, axis=0)
    with RoutesWriter(path, shape) as writer:
        writer.append(experts)
    return path


def test_only_as_many_tokens_are_kept_as_are_asked_for(models: dict[str, Path], tmp_path: Path) -> None:
    shape = RoutesShape("x", (0, 1, 2), num_experts=8, top_k=3)
    replay = replay_for(models["olmoe"], write(tmp_path / "x", shape, 9), 4)
    asked = np.zeros((1, 3), np.int32)
    assert replay(0, asked).tolist() == [[0, 1, 2]]
    assert len(replay._experts[0]) == 4


@pytest.mark.parametrize(
    ("layers", "num_experts", "top_k"), [((0, 1), 8, 3), ((0, 1, 2), 16, 3), ((0, 1, 2), 8, 2)]
)
def test_routes_of_another_shape_are_refused(
    models: dict[str, Path], tmp_path: Path, layers: tuple[int, ...], num_experts: int, top_k: int
) -> None:
    path = write(tmp_path / "x", RoutesShape("x", layers, num_experts, top_k), 2)
    with pytest.raises(UsageError, match="another shape") as caught:
        replay_for(models["olmoe"], path, 2)
    assert "the model has 3 layers with 3 of 8 experts" in caught.value.why


def test_a_dense_model_has_no_routes(models: dict[str, Path], tmp_path: Path) -> None:
    path = write(tmp_path / "x", RoutesShape("x", (0, 1, 2), 8, 3), 2)
    with pytest.raises(UsageError, match="routes need experts"):
        replay_for(models["llama"], path, 2)


def test_a_file_without_a_token_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    path = write(tmp_path / "x", RoutesShape("x", (0, 1, 2), 8, 3), 0)
    with pytest.raises(UsageError, match="holds no routes"):
        replay_for(models["olmoe"], path, 2)
