"""Loading: every form in which files hold a tensor, and what is said when one is missing or of the wrong
shape.
"""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.tiny import IN_GGUF, tiny_config, tiny_gguf, tiny_hf_config

from apportion import _native
from apportion.core.errors import BadFile, Unsupported, UsageError
from apportion.formats.blocks import format_by_name
from apportion.formats.checkpoint import Checkpoint
from apportion.formats.gguf import open_gguf, write_gguf
from apportion.formats.safetensors import open_safetensors
from apportion.kernels import ReferenceOps
from apportion.kernels.memory import ALIGNMENT
from apportion.models import Model, ModelConfig, load_model
from apportion.models.family import FAMILIES
from apportion.models.read_hf import read_hf

IDS = np.arange(24) * 7 % 300
Arrays = dict[str, np.ndarray[Any, Any]]


def logits(model: Model) -> Any:
    return model.forward(IDS, model.new_cache(len(IDS), "f32"), logits="all")


def load(path: Path, **options: Any) -> Model:
    checkpoint = open_gguf(path) if path.is_file() else open_safetensors(path)
    try:
        return load_model(checkpoint, ReferenceOps(), **options)
    finally:
        checkpoint.close()


def read_all(checkpoint: Checkpoint) -> Arrays:
    """Every tensor of a checkpoint of f32, by name."""
    arrays = {}
    for name, info in checkpoint.tensors.items():
        data = np.empty(info.nbytes, dtype=np.uint8)
        checkpoint.read(info, data)
        arrays[name] = data.view(np.float32).reshape(info.shape)
    return arrays


def rewritten(path: Path, change: Callable[[Arrays], None], **metadata: Any) -> Path:
    """A copy of a GGUF file of f32 with its tensors (and metadata) changed."""
    checkpoint = open_gguf(path)
    arrays = read_all(checkpoint)
    change(arrays)
    f32 = format_by_name("f32")
    rows = [(name, f32, array.shape, f32.quantize(array)) for name, array in arrays.items()]
    copy = path.with_suffix(".changed.gguf")
    kept = {key: value for key, value in checkpoint.metadata.items() if metadata.get(key, 0) is not None}
    write_gguf(copy, {**kept, **{k: v for k, v in metadata.items() if v is not None}}, rows)
    checkpoint.close()
    return copy


def test_weights_are_aligned_and_owned(tmp_path: Path) -> None:
    model = load(tiny_gguf("llama", tmp_path))
    layer: Any = model.weights.layers[0]
    for array in (model.weights.embedding.data, layer.attn_norm, layer.feed_forward.down.data):
        assert array.ctypes.data % ALIGNMENT == 0
        assert array.flags.c_contiguous


def test_progress_rises_to_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    load(tiny_gguf("gpt_oss", tmp_path), on_progress=lambda done, total: seen.append((done, total)))
    done, totals = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert set(totals) == {done[-1]}
    assert done[-1] > 0


@pytest.mark.parametrize("name", IN_GGUF)
def test_q8_0_weights_give_nearly_the_same_logits(name: str, tmp_path: Path) -> None:
    exact, rounded = load(tiny_gguf(name, tmp_path)), load(tiny_gguf(name, tmp_path, block_format="q8_0"))
    assert rounded.weights.embedding.format.name == "q8_0"
    error = logits(rounded) - logits(exact)
    assert 0 < np.sqrt(np.mean(error**2)) < 0.1


def test_a_format_that_kernels_lack_is_decoded_and_said(tmp_path: Path) -> None:
    model = load(tiny_gguf("llama", tmp_path, block_format="f64"))
    assert model.weights.embedding.format.name == "f32"
    assert [note.split()[0] for note in model.notes] == ["f64"]
    assert np.array_equal(logits(model), logits(load(tiny_gguf("llama", tmp_path))))


def test_fused_query_key_value_is_taken_apart(tmp_path: Path) -> None:
    def fuse(arrays: Arrays) -> None:
        for layer in range(3):
            for kind in ("weight", "bias"):
                parts = [arrays.pop(f"blk.{layer}.attn_{part}.{kind}") for part in "qkv"]
                arrays[f"blk.{layer}.attn_qkv.{kind}"] = np.concatenate(parts)

    path = tiny_gguf("qwen2", tmp_path)
    assert np.array_equal(logits(load(rewritten(path, fuse))), logits(load(path)))


def test_experts_of_old_files_are_stacked(tmp_path: Path) -> None:
    def unstack(arrays: Arrays) -> None:
        for name in [name for name in arrays if "_exps" in name]:
            for expert, matrix in enumerate(arrays.pop(name)):
                arrays[name.replace("_exps", f".{expert}")] = matrix

    path = tiny_gguf("mixtral", tmp_path)
    assert np.array_equal(logits(load(rewritten(path, unstack))), logits(load(path)))


def test_fused_gate_and_up_experts_are_taken_apart(tmp_path: Path) -> None:
    def fuse(arrays: Arrays) -> None:
        for layer in range(3):
            parts = [arrays.pop(f"blk.{layer}.ffn_{part}_exps.weight") for part in ("gate", "up")]
            arrays[f"blk.{layer}.ffn_gate_up_exps.weight"] = np.concatenate(parts, axis=1)

    path = tiny_gguf("qwen3moe", tmp_path)
    assert np.array_equal(logits(load(rewritten(path, fuse))), logits(load(path)))


def join_keys_and_values(arrays: Arrays) -> None:
    """Latent attention's projections as older files hold them: per head, keys above values, inputs as
    columns.
    """
    for layer in range(3):
        keys = arrays.pop(f"blk.{layer}.attn_k_b.weight").transpose(0, 2, 1)
        values = arrays.pop(f"blk.{layer}.attn_v_b.weight")
        joint = np.concatenate([keys, values], axis=1)
        arrays[f"blk.{layer}.attn_kv_b.weight"] = np.ascontiguousarray(joint.reshape(-1, joint.shape[2]))


def test_joint_latent_projections_of_old_files_are_taken_apart(tmp_path: Path) -> None:
    path = tiny_gguf("deepseek2", tmp_path)
    old = rewritten(
        path,
        join_keys_and_values,
        **{
            "deepseek2.attention.key_length": 40,
            "deepseek2.attention.value_length": 20,
            "deepseek2.attention.key_length_mla": None,
            "deepseek2.attention.value_length_mla": None,
            "deepseek2.attention.head_count_kv": 4,
        },
    )
    assert np.array_equal(logits(load(old)), logits(load(path)))


def test_joint_latent_projections_in_blocks_are_decoded_for_transposing(tmp_path: Path) -> None:
    path = rewritten(tiny_gguf("deepseek2", tmp_path), join_keys_and_values)
    checkpoint = open_gguf(path)
    q8 = format_by_name("q8_0")
    rows = []
    for name, array in read_all(checkpoint).items():
        chosen = q8 if name.endswith("attn_kv_b.weight") else format_by_name("f32")
        rows.append((name, chosen, array.shape, chosen.quantize(array)))
    write_gguf(tmp_path / "blocks.gguf", checkpoint.metadata, rows)
    checkpoint.close()
    model = load(tmp_path / "blocks.gguf")
    attention: Any = model.weights.layers[0].attention
    assert (attention.k_b.format.name, attention.v_b.format.name) == ("f32", "q8_0")
    error = logits(model) - logits(load(path))
    assert 0 < np.sqrt(np.mean(error**2)) < 0.1


def test_a_missing_tensor_is_named_with_its_shape(tmp_path: Path) -> None:
    path = rewritten(tiny_gguf("llama", tmp_path), lambda arrays: arrays.pop("blk.1.attn_k.weight"))
    with pytest.raises(BadFile, match=r"blk\.1\.attn_k\.weight") as caught:
        load(path)
    assert caught.value.numbers["expected"] == [32, 64]


def test_half_of_a_gate_is_not_taken_for_a_fused_one(tmp_path: Path) -> None:
    path = rewritten(tiny_gguf("llama", tmp_path), lambda arrays: arrays.pop("blk.1.ffn_gate.weight"))
    with pytest.raises(BadFile, match="ffn_up"):
        load(path)


@pytest.mark.parametrize("shape", [(31, 64), (32, 96), (32,), (2, 16, 64)])
def test_a_misshapen_tensor_is_named_with_both_shapes(shape: tuple[int, ...], tmp_path: Path) -> None:
    def reshape(arrays: Arrays) -> None:
        arrays["blk.1.attn_k.weight"] = np.zeros(shape, dtype=np.float32)

    with pytest.raises(BadFile) as caught:
        load(rewritten(tiny_gguf("llama", tmp_path), reshape))
    assert caught.value.numbers["tensor"] == "blk.1.attn_k.weight"
    assert caught.value.numbers["found"] == list(shape)
    assert caught.value.numbers["expected"] == [32, 64]


def test_a_vocabulary_that_does_not_fit_the_embedding_is_refused(tmp_path: Path) -> None:
    path = rewritten(
        tiny_gguf("llama", tmp_path), lambda arrays: None, **{"tokenizer.ggml.tokens": ["a"] * 319}
    )
    with pytest.raises(BadFile, match=r"token_embd\.weight"):
        load(path)


SHAPES = st.lists(st.integers(1, 70), min_size=1, max_size=4).filter(lambda shape: np.prod(shape) < 9000)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_whatever_shapes_tensors_have_a_model_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def spoil(arrays: Arrays) -> None:
        for name in data.draw(st.lists(st.sampled_from(list(arrays)), min_size=1, max_size=3, unique=True)):
            array, shape = arrays.pop(name), data.draw(SHAPES)
            if data.draw(st.booleans()):
                others = [np.zeros(shape, np.float32), array[:-1], array.T.copy()]
                arrays[name] = others[data.draw(st.integers(0, 2))]

    path = tiny_gguf(data.draw(st.sampled_from(IN_GGUF)), tmp_path_factory.mktemp("spoiled"))
    with contextlib.suppress(BadFile, UsageError):  # the writer refuses an array without rows
        assert np.isfinite(logits(load(rewritten(path, spoil)))).all()


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_rope_factors_that_break_a_frequency_are_refused(value: float, tmp_path: Path) -> None:
    def spoil(arrays: Arrays) -> None:
        arrays["rope_freqs.weight"] = np.full(8, value, dtype=np.float32)

    with pytest.raises(BadFile, match="rope factors"):
        load(rewritten(tiny_gguf("llama", tmp_path), spoil))


def test_tensors_that_nothing_uses_are_noted_by_kind(tmp_path: Path) -> None:
    def add(arrays: Arrays) -> None:
        for layer in range(3):
            arrays[f"blk.{layer}.attn_surprise.weight"] = np.zeros(4, dtype=np.float32)
        arrays["vision.weight"] = np.zeros(4, dtype=np.float32)
        arrays["blk.0.attn_rot_embd.weight"] = np.zeros(4, dtype=np.float32)  # known to be harmless

    model = load(rewritten(tiny_gguf("llama", tmp_path), add))
    assert model.notes == ("not used: blk.*.attn_surprise.weight (3 tensors)", "not used: vision.weight")


def test_a_weight_with_a_scale_of_its_own_is_refused(tmp_path: Path) -> None:
    def scale(arrays: Arrays) -> None:
        arrays["blk.0.attn_q.scale"] = np.ones(1, dtype=np.float32)

    with pytest.raises(Unsupported, match=r"blk\.0\.attn_q\.scale"):
        load(rewritten(tiny_gguf("llama", tmp_path), scale))


def test_a_file_without_output_weight_uses_the_embedding(tmp_path: Path) -> None:
    path = tiny_gguf("llama", tmp_path)
    assert "output.weight" in open_gguf(path).tensors
    model = load(rewritten(path, lambda arrays: arrays.pop("output.weight")))
    assert model.weights.head is model.weights.embedding


# --- folders of safetensors -------------------------------------------------------------------------------


def save_folder(folder: Path, name: str, arrays: Arrays, **config: Any) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**tiny_hf_config(name), **config}))
    contiguous = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    save_file(contiguous, folder / "model.safetensors")
    return folder


def stored_arrays(name: str, seed: int = 0, config: ModelConfig | None = None) -> Arrays:
    """Random tensors of a folder, under the names that this entry's templates read first."""
    from tests.models.tiny import random_values

    from apportion.models.layout import canonical_slots
    from apportion.models.repack import Mxfp4
    from apportion.models.resolve import candidates_for

    config, rng = config or tiny_config(name), np.random.default_rng(seed)
    arrays: Arrays = {}
    for slot in canonical_slots(config):
        recipe = next(iter(candidates_for(config, FAMILIES.get(config.family), {}, slot.name)), None)
        if recipe is None or not slot.required or isinstance(recipe, Mxfp4):
            continue
        values = random_values(slot, rng)
        pieces = values if len(recipe.sources) > 1 else [values]
        arrays |= dict(zip(recipe.sources, pieces, strict=True))
    return arrays


QWEN_EXPERT, MIXTRAL_EXPERT = "mlp.experts.{}.{}.weight", "block_sparse_moe.experts.{}.{}.weight"
QWEN_PARTS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}


@pytest.mark.parametrize(
    ("name", "single", "parts"),
    [
        ("olmoe", QWEN_EXPERT, QWEN_PARTS),
        ("qwen2moe", QWEN_EXPERT, QWEN_PARTS),
        ("qwen3moe", QWEN_EXPERT, QWEN_PARTS),
        ("mixtral", MIXTRAL_EXPERT, {"gate": "w1", "up": "w3", "down": "w2"}),
    ],
)
def test_stacked_experts_equal_those_stored_one_by_one(
    name: str, single: str, parts: dict[str, str], tmp_path: Path
) -> None:
    arrays, experts = stored_arrays(name), tiny_config(name).experts
    assert experts is not None
    expected = logits(load(save_folder(tmp_path / "single", name, arrays)))
    for layer in range(3):
        stacks = {}
        for part, word in parts.items():
            names = [f"model.layers.{layer}.{single.format(e, word)}" for e in range(experts.num_experts)]
            stacks[part] = np.stack([arrays.pop(each) for each in names])
        prefix = f"model.layers.{layer}.mlp.experts."
        arrays[prefix + "gate_up_proj"] = np.concatenate([stacks["gate"], stacks["up"]], axis=1)
        arrays[prefix + "down_proj"] = stacks["down"]
    assert np.array_equal(logits(load(save_folder(tmp_path / "stacked", name, arrays))), expected)


def gpt_oss_arrays() -> Arrays:
    arrays, config = stored_arrays("gpt_oss"), tiny_config("gpt_oss")
    assert config.experts is not None
    rng, count, size = np.random.default_rng(1), config.experts.num_experts, config.experts.feed_forward_size
    arrays = {name: array for name, array in arrays.items() if ".experts." not in name}
    for layer in range(3):
        prefix = f"model.layers.{layer}.mlp.experts."
        arrays[prefix + "gate_up_proj_bias"] = rng.normal(0, 0.1, (count, 2 * size)).astype(np.float32)
        arrays[prefix + "down_proj_bias"] = rng.normal(0, 0.1, (count, 64)).astype(np.float32)
        for name, rows, blocks in (("gate_up_proj", 2 * size, 2), ("down_proj", 64, 1)):
            shape = (count, rows, blocks)
            arrays[f"{prefix}{name}_blocks"] = rng.integers(0, 256, (*shape, 16), dtype=np.uint8)
            arrays[f"{prefix}{name}_scales"] = rng.integers(122, 126, shape, dtype=np.uint8)
    return arrays


FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)


def test_gpt_oss_blocks_are_repacked_without_changing_a_number(tmp_path: Path) -> None:
    """Against the format's definition: code 2j in the low nibble, 2j + 1 in the high one, times 2^(scale -
    127).
    """
    arrays = gpt_oss_arrays()
    quantization = {"quant_method": "mxfp4"}
    packed = load(save_folder(tmp_path / "packed", "gpt_oss", arrays, quantization_config=quantization))
    plain = {name: array for name, array in arrays.items() if not name.endswith(("_blocks", "_scales"))}
    for name in [name for name in arrays if name.endswith("_blocks")]:
        blocks, scales = arrays[name], arrays[name.replace("_blocks", "_scales")]
        codes = np.stack([blocks & 15, blocks >> 4], axis=-1).reshape(*blocks.shape[:-1], 32)
        numbers = FP4[codes] * np.ldexp(np.float32(1), scales.astype(np.int32) - 127)[..., None]
        matrices = numbers.reshape(*blocks.shape[:2], -1)  # [experts, outputs, inputs]
        plain[name.removesuffix("_blocks")] = matrices.transpose(0, 2, 1)
    unpacked = load(save_folder(tmp_path / "plain", "gpt_oss", plain))
    for layer in range(3):
        ours, theirs = packed.experts_of(layer), unpacked.experts_of(layer)
        for part in ("gate", "up", "down"):
            assert getattr(ours, part).format.name == "mxfp4"
            assert np.array_equal(getattr(ours, part).dequantize(), getattr(theirs, part).dequantize())
    assert np.array_equal(logits(packed), logits(unpacked))


def test_bf16_weights_stay_bf16(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    folder = save_folder(tmp_path / "model", "gemma3", {})
    tensors = {name: torch.tensor(array).bfloat16() for name, array in stored_arrays("gemma3").items()}
    save_file(tensors, folder / "model.safetensors")
    model = load(folder)
    assert model.weights.embedding.format.name == "bf16"
    assert model.weights.output_norm.dtype == np.float32
    stored = tensors["model.norm.weight"].float().numpy()
    assert np.array_equal(model.weights.output_norm, stored + 1)
    assert np.isfinite(logits(model)).all()


def test_loading_takes_the_memory_of_one_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experts that are stored one by one, and a fused stack, pass through small temporaries only."""
    sizes = {"hidden_size": 256, "moe_intermediate_size": 256, "num_experts": 16}
    config = read_hf("qwen3moe", FAMILIES.get("qwen3moe"), {**tiny_hf_config("qwen3moe"), **sizes})
    folder = save_folder(tmp_path, "qwen3moe", stored_arrays("qwen3moe", config=config), **sizes)
    checkpoint = open_safetensors(folder)
    regions: list[int] = []
    allocate = _native.allocate
    monkeypatch.setattr(_native, "allocate", lambda nbytes: regions.append(nbytes) or allocate(nbytes))
    tracemalloc.start()
    model = load_model(checkpoint, ReferenceOps())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    checkpoint.close()
    stored = sum(info.nbytes for info in checkpoint.tensors.values())
    assert stored > 35_000_000
    assert peak < 0.05 * stored, "temporaries"
    assert stored <= sum(regions) < 1.01 * stored
    assert model.config == config


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_the_language_model_of_an_image_model_runs(prefix: str, tmp_path: Path) -> None:
    arrays = stored_arrays("gemma3")
    expected = logits(load(save_folder(tmp_path / "text", "gemma3", arrays)))
    renamed = {name.replace("model.", prefix, 1): array for name, array in arrays.items()}
    folder = save_folder(tmp_path / "images", "gemma3", renamed)
    inner = tiny_hf_config("gemma3")
    (folder / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": inner}))
    assert np.array_equal(logits(load(folder)), expected)


def test_a_stored_head_is_ignored_where_the_embedding_is_the_head(tmp_path: Path) -> None:
    arrays = stored_arrays("llama-tied")
    expected = logits(load(save_folder(tmp_path / "a", "llama-tied", arrays)))
    arrays["lm_head.weight"] = np.zeros((320, 64), dtype=np.float32)
    model = load(save_folder(tmp_path / "b", "llama-tied", arrays))
    assert np.array_equal(logits(model), expected)
    assert model.notes == ()


def test_a_head_that_should_be_there_is_missed(tmp_path: Path) -> None:
    arrays = stored_arrays("llama")
    arrays.pop("lm_head.weight")
    with pytest.raises(BadFile, match=r"output\.weight"):
        load(save_folder(tmp_path, "llama", arrays))


def test_weights_of_whole_numbers_are_refused(tmp_path: Path) -> None:
    arrays = stored_arrays("llama")
    arrays["model.layers.0.self_attn.q_proj.weight"] = np.zeros((64, 64), dtype=np.int8)
    with pytest.raises(Unsupported, match="q_proj"):
        load(save_folder(tmp_path, "llama", arrays))
