"""`apportion plan`: the documented object, refusals, files, tables."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from tests.models.tiny import tiny_gguf
from tests.serve.programs import program
from tests.sources.fake_hub import FakeHub, Server

from apportion.core.claim import Kind
from apportion.core.units import GiB, MiB
from apportion.formats.gguf import cursor
from apportion.hardware.memory import MemoryLimits
from apportion.hardware.profile import DiskProfile, DiskRate, Profile, Range, save_profile
from apportion.hardware.storage import file_system
from apportion.plan import read_plan
from apportion.sources import headers


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("moe"), block_format="q8_0")


def smallest(apportion, model: Path, *words: object) -> int:
    nbytes = apportion("plan", model, "--ram", "1GiB", "--json", *words).object["smallest_budget"]
    assert isinstance(nbytes, int)
    return nbytes


def test_json_has_the_documented_keys(apportion, moe: Path) -> None:
    found = apportion("plan", moe, "--ram", "1GiB", "--threads", 2, "--json").object
    assert found["fits"] is True
    assert found["smallest_budget"] < found["resident_budget"] < 1 * GiB
    assert set(found["bytes"]) == {str(kind) for kind in Kind}
    assert sum(found["bytes"].values()) <= 1 * GiB
    assert (found["resident_fraction"], found["hit_rate"]) == (1, 1)
    for name in ("decode_tok_s", "prefill_tok_s", "ttft_s", "load_s"):
        low, high = found["forecast"]["ranges"][name]
        assert 0 < low <= found["forecast"][name] <= high
    assert found["tiers"] == {"ram": sum(found["bytes"].values()), "disk": 0}
    assert found["threads"] == 2


def test_at_the_smallest_budget_it_fits_and_a_byte_below_it_does_not(apportion, moe: Path) -> None:
    least = smallest(apportion, moe, "--ctx", 64)
    fits = apportion("plan", moe, "--ram", least, "--ctx", 64, "--json")
    assert fits.status == 0
    assert fits.object["expert_slots"] == [2, 2, 2]
    assert fits.object["tiers"]["disk"] > 0
    refused = apportion("plan", moe, "--ram", least - 1, "--ctx", 64, "--json")
    assert refused.status == 1
    assert refused.object["fits"] is False
    assert refused.object["smallest_budget"] == least
    assert refused.object["error"]["code"] == "does_not_fit"
    assert refused.object["forecast"]["decode_tok_s"] > 0


def test_a_refusal_names_the_smallest_budget_and_its_speed(apportion, moe: Path) -> None:
    outcome = apportion("plan", moe, "--ram", "10MiB")
    assert outcome.status == 1
    assert "olmoe does not fit into 10 MiB" in outcome.err
    assert "would do" in outcome.err
    assert "tok/s" in outcome.err


def test_the_tables_tell_division_and_forecast(apportion, moe: Path) -> None:
    least = smallest(apportion, moe, "--concurrency", 2)
    outcome = apportion("plan", moe, "--ram", least + 8192, "--concurrency", 2)
    assert outcome.status == 0
    for words in (
        "2 of 8 in each layer",
        "for 2 sequences each",
        "uniform routing",
        "expert slots",
        "decode",
    ):
        assert words in outcome.out, words
    assert "keeps everything in memory" in outcome.out
    assert "assumed rates" in outcome.err
    assert "\x1b" not in outcome.out


def test_layers_and_rows_that_come_from_disk_are_told(apportion, moe: Path, tmp_path: Path) -> None:
    apportion("plan", moe, "--ram", "1GiB", "--out", tmp_path / "plan.json")
    told = json.loads((tmp_path / "plan.json").read_text())
    told |= {"streamed_layers": [0, 2], "stream_buffers": 2, "embedding": "rows"}
    (tmp_path / "plan.json").write_text(json.dumps(told))
    outcome = apportion("plan", moe, "--plan", tmp_path / "plan.json")
    assert outcome.status == 0
    lines = [" ".join(line.split()) for line in outcome.out.splitlines()]
    assert "layers that stream 2 of 3" in lines
    assert "embedding read from disk by row" in lines


def test_without_a_budget_it_is_what_is_free(apportion, moe: Path) -> None:
    assert apportion("plan", moe, "--json").object["ram"] > 0
    half = apportion("plan", moe, "--ram", "50%", "--json").object["ram"]
    assert half == pytest.approx(2 * apportion("plan", moe, "--ram", "25%", "--json").object["ram"], abs=1)


def test_what_a_server_takes_besides_is_reckoned_with_where_it_is_asked_for(
    apportion, moe: Path, tmp_path: Path
) -> None:
    """The server itself, with the same budget, divides it as it was told beforehand."""
    words = ("--ram", "600MiB", "--ctx", "64", "--concurrency", "4")
    plain, serving = (apportion("plan", moe, *words, "--json", *more).object for more in ((), ("--serve",)))
    with program(moe, *words) as server:
        kinds = httpx.get(f"{server.ready()}/v1/apportion/status").json()["budget"]["ram"]["kinds"]
    assert serving["bytes"]["runtime"] == pytest.approx(kinds["runtime"], abs=12 * MiB)
    assert serving["bytes"]["runtime"] > plain["bytes"]["runtime"] + 48 * MiB
    others = [kind for kind in kinds if kind != "runtime"]
    assert [serving["bytes"].get(kind, 0) for kind in others] == [kinds[kind] for kind in others]


def test_a_saved_profile_is_reckoned_with(apportion, moe: Path) -> None:
    rates = (DiskRate(MiB, 1, False, Range(1.0, 0.5, 1.5)), DiskRate(MiB, 8, True, Range(0.8, 0.4, 1.2)))
    disk = DiskProfile(file_system(moe), "ring", True, GiB, rates, ())
    limits = MemoryLimits(GiB, GiB, None, None)
    peaks = {"int8": 400.0, "bf16": 200.0, "f32": 100.0}
    save_profile(Profile("", ("avx2",), 2, limits, {1: 10.0, 2: 20.0}, peaks, {}, disk, "2026-01-02T03:04Z"))
    least = smallest(apportion, moe)
    found = apportion("plan", moe, "--ram", least, "--threads", 2, "--json")
    assert "2026-01-02T03:04Z" in found.object["forecast"]["basis"]
    low, high = found.object["forecast"]["ranges"]["load_s"]
    assert low < found.object["forecast"]["load_s"] < high
    assert found.err == ""
    stated = apportion("plan", moe, "--ram", least, "--disk-bw", "3GB/s", "--json").object
    assert "3.00 GB/s as stated" in stated["forecast"]["basis"]


def test_hit_rates_come_from_where_they_are_said_to(apportion, moe: Path, tmp_path: Path) -> None:
    least = smallest(apportion, moe)

    def found(*words: object) -> tuple[float, str]:
        told = apportion("plan", moe, "--ram", least, "--json", *words).object
        return told["hit_rate"], told["hit_rate_source"]

    assert found("--curve", "uniform") == (0.25, "uniform routing, the worst case")
    assert found("--hit-rate", 0.9) == (pytest.approx(0.9), "as stated")
    rate, source = found("--curve", "qwen3moe")
    assert rate > 0.7
    assert "Qwen3" in source
    curve = {"source": "my routes", "fractions": [0.5, 1.0], "hit_rates": [0.6, 1.0]}
    (tmp_path / "curve.json").write_text(json.dumps(curve))
    assert found("--curve", tmp_path / "curve.json") == (pytest.approx(0.3), "my routes")
    assert apportion("plan", moe, "--curve", tmp_path / "none.json").status == 1


def test_policies_and_the_order_of_prefill_stand_in_the_plan(apportion, moe: Path) -> None:
    least = smallest(apportion, moe)
    words = ["--expert-cache", "lfu_aged:half_life=64", "--prefill-order", "chunked"]
    found = apportion("plan", moe, "--ram", least, "--json", *words).object
    assert found["policies"]["expert_cache"] == "lfu_aged:half_life=64"
    assert found["prefill"] == "chunked"
    outcome = apportion("plan", moe, "--expert-cache", "lfuu")
    assert outcome.status == 1
    assert "did you mean 'lfu'" in outcome.err


@pytest.mark.parametrize("name", ["plan.json", "plan.toml"])
def test_a_plan_is_kept_edited_and_reckoned_anew(apportion, moe: Path, tmp_path: Path, name: str) -> None:
    least = smallest(apportion, moe)
    path = tmp_path / name
    outcome = apportion("plan", moe, "--ram", least + 100_000, "--ctx", 100, "--out", path)
    assert str(path) in outcome.err
    plan = read_plan(path)
    assert plan.ctx == 100
    again = apportion("plan", moe, "--plan", path, "--json").object
    assert again["expert_slots"] == list(plan.expert_slots)
    assert again["bytes"]["kv"] == plan.nbytes[Kind.KV]
    text = path.read_text().replace('"ctx": 100', '"ctx": 50').replace("ctx = 100", "ctx = 50")
    path.write_text(text)
    again = apportion("plan", moe, "--plan", path, "--json").object
    assert again["bytes"]["kv"] == plan.nbytes[Kind.KV] // 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ram", "much"], "not a budget"),
        (["--disk-bw", "fast"], "not a rate"),
        (["--disk-bw", "0"], "reads nothing"),
        (["--hit-rate", "80"], "between 0 and 1"),
        (["--hit-rate", "0.5", "--curve", "uniform"], "exclude each other"),
        (["--ram", "1GiB", "--plan", "x"], "exclude each other"),
        (["--ctx", "100000"], "choose 1 to 256"),
    ],
)
def test_wishes_that_are_none_are_refused_in_words(
    apportion, moe: Path, words: list[str], message: str
) -> None:
    outcome = apportion("plan", moe, *words)
    assert outcome.status == 2
    assert message in outcome.err


def test_a_model_on_a_hub_is_planned_for_without_downloading_it(
    apportion, moe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub(files={"m-Q8_0.gguf": moe.read_bytes()})
    server = Server(hub)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cursor, "CHUNK_NBYTES", 1024)
    monkeypatch.setattr(headers, "FIRST_NBYTES", 4096)
    try:
        remote = apportion("plan", "hf:org/name", "--ram", "60MiB", "--ctx", 64, "--json").object
        refused = apportion("plan", "hf:org/name", "--offline", "--json")
    finally:
        server.close()
    local = apportion("plan", moe, "--ram", "60MiB", "--ctx", 64, "--json").object
    assert remote["bytes"] == local["bytes"]
    assert remote["expert_slots"] == local["expert_slots"]
    assert remote["model"] == "org/name:Q8_0"
    assert not list((tmp_path / "hf").rglob("*.gguf"))
    assert refused.status == 1
    assert refused.object["error"]["code"] == "offline"


def test_a_file_that_is_no_model_is_an_error(apportion, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"no model")
    assert apportion("plan", tmp_path / "m.gguf").status == 1
