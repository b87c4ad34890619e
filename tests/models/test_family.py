from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, TINY, gguf_metadata, tiny_config, tiny_gguf, tiny_hf_config, tiny_model

from apportion.core.errors import BadFile, Unsupported
from apportion.formats.gguf import open_gguf
from apportion.kernels import ReferenceOps
from apportion.models import config_from_checkpoint, load_model
from apportion.models.family import FAMILIES, family_of
from apportion.models.layout import canonical_slots, layer_slots


def folder(config: dict[str, Any]) -> Any:
    return SimpleNamespace(kind="safetensors", metadata=config, tensors={})


def gguf(metadata: dict[str, Any]) -> Any:
    return SimpleNamespace(kind="gguf", metadata=metadata, tensors={})


@pytest.mark.parametrize("name", TINY)
def test_checkpoints_find_their_family(name: str) -> None:
    assert family_of(folder(tiny_hf_config(name))) == name.split("-")[0]
    assert family_of(gguf(gguf_metadata(tiny_config(name)))) == name.split("-")[0]


def test_no_two_families_claim_the_same_checkpoint() -> None:
    claims = [
        (kind, architecture, family.routing is not None)
        for family in (FAMILIES.get(name) for name in FAMILIES)
        for kind, names in (("gguf", family.gguf), ("folder", family.model_types))
        for architecture in names
    ]
    assert len(claims) == len(set(claims))


@pytest.mark.parametrize(
    "checkpoint",
    [
        folder({"model_type": "rwkv"}),
        gguf({"general.architecture": "rwkv7"}),
        folder({"model_type": "llama4"}),
    ],
)
def test_an_unknown_family_is_refused_with_those_that_are_known(checkpoint: Any) -> None:
    with pytest.raises(Unsupported, match="gemma3") as caught:
        family_of(checkpoint)
    assert "not known" in str(caught.value)


@pytest.mark.parametrize(
    "checkpoint", [folder({}), gguf({}), folder({"model_type": 7}), folder({"model_type": []})]
)
def test_a_checkpoint_that_does_not_say_what_it_is_is_refused(checkpoint: Any) -> None:
    with pytest.raises(BadFile, match="does not say"):
        family_of(checkpoint)


def test_a_family_from_elsewhere_runs_like_ours(tmp_path: Path) -> None:
    """What an entry point of another package gives is a `Family` and nothing more."""
    foreign = replace(FAMILIES.get("qwen3"), gguf=("foreign",), model_types=("foreign",))
    path = tiny_gguf("qwen3", tmp_path)
    checkpoint = open_gguf(path)
    renamed = {key.replace("qwen3.", "foreign."): value for key, value in checkpoint.metadata.items()}
    renamed["general.architecture"] = "foreign"
    proxy = SimpleNamespace(
        kind="gguf",
        metadata=renamed,
        tensors=checkpoint.tensors,
        read=checkpoint.read,
        files=checkpoint.files,
    )
    with FAMILIES.adding("foreign", foreign):
        model = load_model(proxy, ReferenceOps())
        assert model.config.family == "foreign"
        ids = np.arange(12)
        expected = tiny_model("qwen3", tmp_path).forward(ids, model.new_cache(12))
        assert np.array_equal(model.forward(ids, model.new_cache(12)), expected)


@pytest.mark.parametrize("name", IN_GGUF)
def test_canonical_names_are_those_of_gguf(name: str) -> None:
    """Against the names that the `gguf` package lists for the architecture."""
    constants = pytest.importorskip("gguf.constants")
    config = tiny_config(name)
    family = FAMILIES.get(config.family)
    known_architectures = {text: key for key, text in constants.MODEL_ARCH_NAMES.items()}
    known = {
        constants.TENSOR_NAMES[tensor].removeprefix("blk.{bid}.")
        for tensor in constants.MODEL_TENSORS[known_architectures[family.gguf[0]]]
    }
    slots = [slot.name for slot in canonical_slots(config) if slot.required]
    within = [name.split(".", 2)[-1] if name.startswith("blk.") else name for name in slots]
    ours = {family.gguf_names.get(name, name).rpartition(".")[0] for name in within}
    ours -= {"ffn_gate", "attn_q", "attn_k", "attn_v"} if config.family == "phi3" else set()
    assert ours <= known


def test_a_configuration_is_read_from_headers_alone(tmp_path: Path) -> None:
    checkpoint = open_gguf(tiny_gguf("gemma3", tmp_path))
    checkpoint.close()
    config = config_from_checkpoint(checkpoint)
    assert (config.family, config.num_layers, config.context_length) == ("gemma3", 4, 256)


@pytest.mark.parametrize("name", TINY)
def test_no_other_name_of_a_tensor_is_the_canonical_name_of_another(name: str) -> None:
    config = tiny_config(name)
    others = FAMILIES.get(config.family).gguf_names.values()
    for layer in range(config.num_layers):
        assert not {slot.name for slot in layer_slots(config, layer)} & set(others)
