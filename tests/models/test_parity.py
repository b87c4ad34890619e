"""The same tiny random model in transformers and here: a 64-token prompt, then 16 decode steps."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, NOT_IN_GGUF, TINY, VOCAB, canonical_copy, tiny_hf_config

from apportion import kernels
from apportion.formats.gguf import open_gguf
from apportion.formats.safetensors import open_safetensors
from apportion.kernels import Ops, ReferenceOps
from apportion.models import Model, load_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT, STEPS, TOLERANCE = 64, 16, 1e-4
IDS = np.random.default_rng(7).integers(0, VOCAB - 64, PROMPT + STEPS)


def test_the_tiny_models_cover_every_family() -> None:
    from apportion.models.family import FAMILIES

    assert {name.split("-")[0] for name in TINY} == set(FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Per entry: the folder that transformers saved, and the logits that it computed."""
    root = tmp_path_factory.mktemp("parity")

    @cache
    def build(name: str) -> tuple[Path, Any]:
        model = torch_model(name)
        model.save_pretrained(root / name)
        with torch.no_grad():
            logits = model(torch.tensor(IDS[None])).logits[0].numpy()
        return root / name, logits

    return build


def torch_model(name: str) -> Any:
    """A model of transformers with weights that keep activations and logits at order one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(**tiny_hf_config(name))
    config.dtype = "float32"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    zero_centred = name.startswith("gemma")
    for key, tensor in [*model.named_parameters(), *model.named_buffers()]:
        with torch.no_grad():
            if tensor.ndim >= 2:
                tensor.normal_(0, tensor.shape[-1] ** -0.5)
            elif "norm" in key and not zero_centred:
                tensor.normal_(1, 0.1)
            elif "inv_freq" not in key and "embed_scale" not in key:
                tensor.normal_(0, 0.2)
    return model


def our_logits(model: Model) -> Any:
    """Logits of the prompt at once, then token by token."""
    cache = model.new_cache(PROMPT + STEPS, "f32")
    prompt = model.forward(IDS[:PROMPT], cache, logits="all")
    steps = [model.forward(IDS[i : i + 1], cache) for i in range(PROMPT, PROMPT + STEPS)]
    return np.concatenate([prompt, *steps])


def exact_native() -> Ops:
    if not hasattr(kernels, "NativeOps"):
        pytest.skip("the native core is not built")
    ops: Ops = kernels.NativeOps(threads=1, exact=True)
    return ops


@pytest.mark.parametrize("name", TINY)
def test_logits_equal_those_of_transformers(name: str, folders: Any) -> None:
    folder, expected = folders(name)
    checkpoint = open_safetensors(folder)
    model = load_model(checkpoint, ReferenceOps())
    checkpoint.close()
    assert 0.2 < expected.std() < 5, "logits of order one, or the tolerance says nothing"
    assert np.abs(our_logits(model) - expected).max() < TOLERANCE
    assert model.notes == ()


@pytest.mark.parametrize("name", TINY)
def test_native_logits_equal_those_of_transformers(name: str, folders: Any) -> None:
    ops = exact_native()
    folder, expected = folders(name)
    checkpoint = open_safetensors(folder)
    model = load_model(checkpoint, ops)
    checkpoint.close()
    assert np.abs(our_logits(model) - expected).max() < TOLERANCE


@pytest.mark.parametrize("name", IN_GGUF)
def test_a_canonical_copy_in_gguf_has_the_same_logits(name: str, folders: Any, tmp_path: Path) -> None:
    folder, expected = folders(name)
    checkpoint = open_safetensors(folder)
    canonical_copy(checkpoint, tmp_path / "copy.gguf")
    checkpoint.close()
    copy = open_gguf(tmp_path / "copy.gguf")
    model = load_model(copy, ReferenceOps())
    copy.close()
    assert np.abs(our_logits(model) - expected).max() < TOLERANCE
    assert model.notes == ()


def test_entries_that_gguf_cannot_hold_are_named() -> None:
    assert set(TINY) >= NOT_IN_GGUF
