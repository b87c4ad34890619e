"""`apportion trace`: routes made, shown, replayed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.formats.routes import RoutesFile, RoutesShape, RoutesWriter
from apportion.plan.hit_rate import read_curve
from apportion.policies import EXPERT_CACHES

MADE = ["--layers", "2", "--experts", "16", "--top-k", "2", "--tokens", "400"]


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    """Two layers of 4 experts; every token uses the expert of the token before, and another one in turn."""
    path = tmp_path / "turns.routes"
    with RoutesWriter(path, RoutesShape("turns", (1, 3), 4, 2, gates=True, hidden=8)) as writer:
        for token in range(8):
            ids = np.array([[[token % 4, (token + 1) % 4]] * 2])
            writer.append(ids, np.full((1, 2, 2), 0.5), np.zeros((1, 2, 8)))
    return path


def test_routes_are_made_to_a_curve(apportion, tmp_path: Path) -> None:
    out = tmp_path / "made.routes"
    facts = apportion("trace", "generate", out, *MADE, "--curve", "0.25:0.5,0.5:0.8", "--json").object
    assert facts == apportion("trace", "info", out, "--json").object
    assert (facts["tokens"], facts["layers"], facts["num_experts"], facts["top_k"]) == (400, [0, 1], 16, 2)
    assert facts["lru_curve"]["4"] == pytest.approx(0.5, abs=0.05)
    assert facts["lru_curve"]["8"] == pytest.approx(0.8, abs=0.05)
    assert facts["model"] == "made to 0.25:0.5,0.5:0.8, seed 0"


def test_the_same_seed_makes_the_same_file(apportion, tmp_path: Path) -> None:
    names = [tmp_path / name for name in ("first", "again", "other")]
    for name, seed in zip(names, (1, 1, 2), strict=True):
        assert apportion("trace", "generate", name, *MADE, "--uniform", "--seed", seed).status == 0
    first, again, other = (name.read_bytes() for name in names)
    assert first == again != other


@pytest.mark.parametrize("words", [[], ["--uniform", "--curve", "0.5:0.6"]])
def test_generate_wants_either_a_curve_or_uniform(apportion, tmp_path: Path, words: list[str]) -> None:
    outcome = apportion("trace", "generate", tmp_path / "x", *MADE, *words)
    assert outcome.status == 2
    assert "either --curve or --uniform" in outcome.err
    assert not (tmp_path / "x").exists()


def test_a_curve_that_cannot_be_leaves_no_file(apportion, tmp_path: Path) -> None:
    outcome = apportion("trace", "generate", tmp_path / "x", *MADE, "--curve", "0.94:0.1")
    assert outcome.status == 2
    assert "no routes have this curve" in outcome.err
    assert not (tmp_path / "x").exists()


def test_routes_are_made_to_a_published_curve(apportion, tmp_path: Path) -> None:
    shape = ["--layers", 1, "--experts", 128, "--top-k", 8, "--tokens", 400]
    found = apportion("trace", "generate", tmp_path / "x", *shape, "--curve", "qwen3moe", "--json").object
    assert found["lru_curve"]["32"] == pytest.approx(0.8004 / 0.9787, abs=0.04)
    outcome = apportion("trace", "generate", tmp_path / "x", *shape, "--curve", "qwen3")
    assert outcome.status == 2
    assert "did you mean 'qwen3moe'" in outcome.err


def test_a_curve_is_kept_as_plans_read_it(apportion, routes: Path, tmp_path: Path) -> None:
    assert apportion("trace", "info", routes, "--save-curve", tmp_path / "curve.json").status == 0
    rates = read_curve(tmp_path / "curve.json")
    assert rates.source == "routes of turns, 8 tokens"
    assert rates.rate(0, 3, 4) == pytest.approx((7 / 16) / (12 / 16))  # without the cold start
    outcome = apportion("trace", "info", routes, "--save-curve", tmp_path / "none" / "curve.json")
    assert outcome.status == 1
    assert "none" in outcome.err


def test_info_tells_what_is_recorded_and_the_curve(apportion, routes: Path) -> None:
    facts = apportion("trace", "info", routes, "--json").object
    assert (facts["gates"], facts["hidden"], facts["cut_bytes"]) == (True, 8, 0)
    assert facts["repeated"] == 0.5
    assert facts["repeated_by_chance"] == 0.5
    assert facts["lru_curve"] == {"2": 7 / 16, "3": 7 / 16, "4": 12 / 16}
    out = apportion("trace", "info", routes, "--skip", 4).out
    assert "2 of 4 per token and layer" in out
    assert "experts, gates, router inputs of 8" in out
    assert "100.0%" in out


def test_info_says_that_the_last_token_is_cut_off(apportion, routes: Path) -> None:
    routes.write_bytes(routes.read_bytes()[:-3])
    assert "the last token was cut off: 41 bytes" in apportion("trace", "info", routes).out
    assert apportion("trace", "info", routes, "--json").object["tokens"] == 7


def test_replay_compares_every_policy_at_every_number_of_slots(apportion, routes: Path) -> None:
    found = apportion("trace", "replay", routes, "--slots", "3,50%", "--json").object
    assert [(row["policy"], row["slots"]) for row in found["rows"]] == [
        (name, slots) for name in EXPERT_CACHES for slots in (2, 3)
    ]
    rates = {(row["policy"], row["slots"]): row["hit_rate"] for row in found["rows"]}
    assert rates["lru", 3] == 7 / 16
    assert rates["belady", 3] == max(rate for (_, slots), rate in rates.items() if slots == 3)
    assert [row["oracle"] for row in found["rows"][:2]] == [True, True]
    assert found["rows"][-1]["hit_rate_by_layer"] == [found["rows"][-1]["hit_rate"]] * 2


def test_replay_takes_chosen_policies_with_parameters(apportion, routes: Path) -> None:
    words = ["--policy", "lru,lfu_aged:half_life=4", "--slots", "3", "--skip", "4"]
    found = apportion("trace", "replay", routes, *words, "--json").object
    assert [row["policy"] for row in found["rows"]] == ["lru", "lfu_aged:half_life=4"]
    assert found["rows"][1]["parameters"] == {"half_life": 4.0}
    out = apportion("trace", "replay", routes, *words).out
    assert "lfu_aged:half_life=4" in out
    assert "4 tokens" in out
    assert "3 slots (75%)" in out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--slots", "1"], "choose 2 to 4"),
        (["--slots", "5"], "choose 2 to 4"),
        (["--slots", "200%"], "choose 2 to 4"),
        (["--slots", "few"], "not a number of slots"),
        (["--slots", "2.5"], "not a number of slots"),
        (["--slots", "inf%"], "not a number of slots"),
        (["--policy", "lur"], "did you mean 'lru'"),
        (["--policy", "lru,"], "unknown expert cache"),
        (["--policy", "lru:depth=3"], "unknown parameter of lru"),
    ],
)
def test_replay_refuses_what_cannot_be(apportion, routes: Path, words: list[str], says: str) -> None:
    outcome = apportion("trace", "replay", routes, *words)
    assert outcome.status in (1, 2)
    assert says in outcome.err


@pytest.mark.parametrize("verb", ["info", "replay"])
def test_an_empty_recording_has_no_hits(apportion, tmp_path: Path, verb: str) -> None:
    RoutesWriter(tmp_path / "x", RoutesShape("empty", (0,), 4, 2)).close()
    assert apportion("trace", verb, tmp_path / "x").status == 0


@pytest.mark.parametrize("verb", ["info", "replay"])
def test_a_file_that_holds_no_routes_is_refused(apportion, tmp_path: Path, verb: str) -> None:
    (tmp_path / "x").write_bytes(b"GGUF" + bytes(100))
    outcome = apportion("trace", verb, tmp_path / "x")
    assert outcome.status == 1
    assert "is not a routes file" in outcome.err


def test_what_is_made_is_read_back_as_made(apportion, tmp_path: Path) -> None:
    apportion("trace", "generate", tmp_path / "x", *MADE, "--uniform")
    with RoutesFile(tmp_path / "x") as file:
        assert file.shape == RoutesShape("made uniform, seed 0", (0, 1), 16, 2)
        assert file.experts().shape == (400, 2, 2)


@pytest.fixture(scope="module")
def moe_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("mixtral", tmp_path_factory.mktemp("moe"), block_format="q8_0")


def test_a_model_is_recorded_while_it_reads(apportion, moe_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The routes of a tiny model that reads a short text.\n" * 4)
    words = ["--text", text, "--limit-tokens", 60, "--ctx", 32, "--threads", 1]
    facts = apportion("trace", "record", moe_path, tmp_path / "x", *words, "--json").object
    assert facts["tokens"] == 62  # and a BOS for each of two windows
    assert (facts["layers"], facts["num_experts"], facts["top_k"]) == ([0, 1, 2], 4, 2)
    assert (facts["gates"], facts["hidden"]) == (True, 0)
    out = apportion("trace", "record", moe_path, tmp_path / "x", *words, "--inputs").out
    assert "experts, gates, router inputs of 64" in out
    assert apportion("trace", "replay", tmp_path / "x").status == 0


def test_tokens_by_chance_are_recorded_alike_every_time(apportion, moe_path: Path, tmp_path: Path) -> None:
    words = ["--random-tokens", 40, "--ctx", 32, "--threads", 1, "--json"]
    names = ("one", "other")
    facts = [apportion("trace", "record", moe_path, tmp_path / name, *words).object for name in names]
    assert facts[0]["tokens"] == 42  # and a BOS for each of two windows
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_model_under_a_budget_is_recorded_alike(apportion, moe_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The routes of a tiny model that reads a short text.\n" * 4)
    words = ["--text", text, "--limit-tokens", 60, "--threads", 1, "--inputs"]
    assert apportion("trace", "record", moe_path, tmp_path / "whole", *words).status == 0
    budget = ["--ram", "4GiB", "--ctx", 64]
    outcome = apportion("trace", "record", moe_path, tmp_path / "budget", *words, *budget)
    assert outcome.status == 0, outcome.err
    assert "expect" in outcome.err
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "budget").read_bytes()


def test_what_cannot_be_recorded_is_refused_and_leaves_no_file(
    apportion, moe_path: Path, tiny_path: Path, tmp_path: Path
) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "x"
    text.write_text("words")
    for words in ([], ["--text", text, "--random-tokens", 4]):
        outcome = apportion("trace", "record", moe_path, out, *words)
        assert (outcome.status, "either --text or --random-tokens" in outcome.err) == (2, True)
    text.write_text("")
    outcome = apportion("trace", "record", moe_path, out, "--text", text)
    assert (outcome.status, "holds no text" in outcome.err) == (2, True)
    text.write_text("words")
    outcome = apportion("trace", "record", tiny_path, out, "--text", text)
    assert (outcome.status, "has no experts" in outcome.err) == (1, True)
    assert not out.exists()
