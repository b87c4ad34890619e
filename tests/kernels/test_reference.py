"""The reference against PyTorch, and against what its words promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.kernels.tables import alone, new_table, random, table_of

from apportion.formats.block import BlockFormat, Floats
from apportion.kernels import ExpertWeights, LayerShape, ReferenceOps, Routing, Weight, weight_from_floats

F32 = BlockFormat(
    "f32",
    0,
    1,
    4,
    decode=lambda blocks: np.ascontiguousarray(blocks).view(np.float32),
    encode=lambda values: np.ascontiguousarray(values).view(np.uint8),
)
OPS = ReferenceOps()


def dense(seed: int, *shape: int) -> Weight:
    return weight_from_floats(F32, random(seed, *shape))


def close(ours: Floats, theirs: torch.Tensor) -> None:
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-5, atol=2e-5)


def test_embed_takes_rows_of_the_table() -> None:
    table = dense(0, 7, 5)
    ids = np.array([6, 0, 6], dtype=np.int32)
    np.testing.assert_array_equal(OPS.embed(ids, table), table.dequantize()[ids])


def test_rms_norm_is_that_of_torch() -> None:
    x, weight = random(1, 3, 4, 48), random(2, 48)
    theirs = torch.nn.functional.rms_norm(torch.tensor(x), (48,), torch.tensor(weight), 1e-5)
    close(OPS.rms_norm(x, weight, 1e-5), theirs)


def test_linear_is_that_of_torch_also_when_it_runs_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apportion.kernels.reference.NUMBERS_AT_A_TIME", 100)
    x, weight, bias = random(3, 5, 33), dense(4, 17, 33), random(5, 17)
    theirs = torch.nn.functional.linear(
        torch.tensor(x), torch.tensor(weight.dequantize()), torch.tensor(bias)
    )
    close(OPS.linear(x, weight, bias), theirs)


def test_linear_heads_gives_each_head_its_own_matrix() -> None:
    x, weight = random(6, 3, 2, 8), dense(7, 2, 5, 8)
    ours = OPS.linear_heads(x, weight)
    for head in range(2):
        np.testing.assert_allclose(
            ours[:, head], OPS.linear(np.ascontiguousarray(x[:, head]), weight[head]), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("style", ["half", "interleaved"])
def test_rope_turns_pairs_by_position_times_frequency(style: str) -> None:
    x, positions = random(8, 4, 2, 10), np.array([0, 1, 5, 900], dtype=np.int32)
    inv_freq = (10000.0 ** (-np.arange(4) / 4)).astype(np.float32)
    turned = x.copy()
    OPS.rope(turned, positions, inv_freq, style, 1.5)  # type: ignore[arg-type]
    pairs = [(i, i + 4) if style == "half" else (2 * i, 2 * i + 1) for i in range(4)]
    for token, position in enumerate(positions):
        for i, (first, second) in enumerate(pairs):
            factor = 1.5 * np.exp(1j * np.float64(np.float32(position) * inv_freq[i]))
            expected = (x[token, :, first] + 1j * x[token, :, second]) * factor
            np.testing.assert_allclose(turned[token, :, first], expected.real, atol=1e-5)
            np.testing.assert_allclose(turned[token, :, second], expected.imag, atol=1e-5)
    np.testing.assert_array_equal(turned[..., 8:], x[..., 8:])


def test_gates_are_those_of_torch() -> None:
    gate, up = random(9, 3, 40) * 5, random(10, 3, 40) * 5
    g, u = torch.tensor(gate), torch.tensor(up)
    close(OPS.gate(gate, up, "silu"), torch.nn.functional.silu(g) * u)
    close(OPS.gate(gate, up, "gelu_tanh"), torch.nn.functional.gelu(g, approximate="tanh") * u)
    clamped = g.clamp(max=7)
    close(OPS.gate(gate, up, "swiglu_oai"), clamped * torch.sigmoid(1.702 * clamped) * (u.clamp(-7, 7) + 1))


@pytest.mark.parametrize("codec", ["f16", "f32"])
def test_attend_is_torch_attention_over_what_was_appended(codec: str) -> None:
    k, v, q = random(11, 9, 2, 16), random(12, 9, 2, 24), random(13, 4, 6, 16)
    table = new_table(12, LayerShape(2, 16, 24), codec)
    for first, last in ((0, 5), (5, 9)):
        OPS.append(alone(table, first, last - first), 0, k[first:last], v[first:last])
    keys, values = (
        torch.tensor(rows.astype(np.float16 if codec == "f16" else np.float32).astype(np.float32)).transpose(
            0, 1
        )
        for rows in (k, v)
    )
    theirs = torch.nn.functional.scaled_dot_product_attention(
        torch.tensor(q).transpose(0, 1),
        keys.repeat_interleave(3, 0),
        values.repeat_interleave(3, 0),
        attn_mask=torch.ones(4, 9, dtype=torch.bool).tril(5),
        scale=0.3,
    )
    close(OPS.attend(q, alone(table, 5, 4), 0, 0.3), theirs.transpose(0, 1))


def test_a_window_of_one_returns_the_own_value() -> None:
    q, k, v = random(14, 3, 2, 8), random(15, 3, 2, 8), random(16, 3, 2, 8)
    out = OPS.attend(q, alone(table_of(k, v), 0, 3), 0, 1.0, window=1)
    np.testing.assert_allclose(out, v, rtol=1e-6)


def test_dead_places_are_left_out() -> None:
    q, k, v = random(14, 3, 2, 8), random(15, 35, 2, 8), random(16, 35, 2, 8)
    table = table_of(k, v)
    table.replace(0, *table.blocks[0][:2], 0b101)
    kept = [0, 2, 32, 33, 34]
    out = OPS.attend(q, alone(table, 32, 3), 0, 1.0)
    np.testing.assert_array_equal(out, OPS.attend(q, alone(table_of(k[kept], v[kept]), 2, 3), 0, 1.0))


def test_a_sink_takes_its_share_and_gives_nothing() -> None:
    q, k, v = np.zeros((1, 1, 4), np.float32), random(17, 1, 1, 4), random(18, 1, 1, 4)
    out = OPS.attend(q, alone(table_of(k, v), 0, 1), 0, 1.0, sinks=np.zeros(1, np.float32))
    np.testing.assert_allclose(out[0, 0], v[0, 0] / 2, rtol=1e-6)


def test_a_soft_cap_bounds_the_scores() -> None:
    q, k = np.array([[[1000.0]]], np.float32), np.array([[[1000.0]], [[0.0]]], np.float32)
    v = np.array([[[1.0]], [[0.0]]], np.float32)
    out = OPS.attend(q, alone(table_of(k, v), 1, 1), 0, 1.0, softcap=2.0)
    np.testing.assert_allclose(out[0, 0, 0], np.exp(2) / (np.exp(2) + 1), rtol=1e-6)


def test_route_breaks_ties_by_the_lower_id() -> None:
    ids, weights = OPS.route(np.zeros((1, 8), np.float32), Routing(3, normalize=True, scale=2.0))
    np.testing.assert_array_equal(ids, [[0, 1, 2]])
    np.testing.assert_allclose(weights, 2 / 3, rtol=1e-6)


def test_route_softmax_over_the_chosen_only() -> None:
    logits = random(19, 4, 8)
    ids, weights = OPS.route(logits, Routing(2, score="softmax_topk"))
    values, expected = torch.topk(torch.tensor(logits), 2)
    np.testing.assert_array_equal(ids, expected.numpy())
    close(weights, torch.softmax(values, -1))


def test_route_bias_chooses_but_does_not_weigh() -> None:
    logits = np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)
    bias = np.array([0, 0, 0, 9], np.float32)
    ids, weights = OPS.route(logits, Routing(1, score="sigmoid"), bias)
    np.testing.assert_array_equal(ids, [[3]])
    np.testing.assert_allclose(weights, 1 / (1 + np.e), rtol=1e-6)


@pytest.mark.parametrize(("group_score", "expected"), [("max", [0]), ("top2", [3])])
def test_route_chooses_groups_first(group_score: str, expected: list[int]) -> None:
    logits = np.array([[3.0, -9.0, 1.0, 2.0]], np.float32)
    routing = Routing(1, "softmax_topk", num_groups=2, top_groups=1, group_score=group_score)  # type: ignore[arg-type]
    ids, _ = OPS.route(logits, routing)
    np.testing.assert_array_equal(ids, [expected])


def test_experts_sum_what_each_chosen_expert_says() -> None:
    x = random(20, 5, 6)
    layer = ExpertWeights(
        dense(21, 4, 9, 6), dense(22, 4, 9, 6), dense(23, 4, 6, 9), random(24, 4, 9), None, random(25, 4, 6)
    )
    ids = np.array([[0, 1], [1, 3], [3, 0], [0, 1], [1, 0]], np.int32)
    weights = random(26, 5, 2)
    ours = OPS.experts(x, ids, weights, layer, "silu")
    gate, up, down = (torch.tensor(w.dequantize()) for w in (layer.gate, layer.up, layer.down))
    for token in range(5):
        total = torch.zeros(6)
        for expert, share in zip(ids[token], weights[token], strict=True):
            assert layer.gate_bias is not None
            assert layer.down_bias is not None
            row = torch.tensor(x[token])
            inner = torch.nn.functional.silu(gate[expert] @ row + torch.tensor(layer.gate_bias[expert]))
            inner = inner * (up[expert] @ row)
            total += float(share) * (down[expert] @ inner + torch.tensor(layer.down_bias[expert]))
        close(ours[token], total)
