"""The budget is the process also where models come and go: its peak, by the system's account."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks.make_random_model import SHAPES, make

from apportion.core.units import MiB
from apportion.formats.blocks import format_by_name

SHAPE = replace(
    SHAPES["olmoe"],
    layers=3,
    hidden=512,
    heads=8,
    kv_heads=8,
    head_size=64,
    experts=16,
    experts_used=4,
    expert_size=512,
    vocabulary=12_000,
    context=2048,
)

# Loads models in turn and uses each in every way that takes memory; tells what was in memory beside it, the
# process's peak, and the ledger's.
WORK = """
import asyncio, json, sys
from apportion.core.claim import Tier
from apportion.core.resident import peak_rss_bytes
from apportion.engine import SamplingParams
from apportion.engine.assembly import Serving
from apportion.serve import ModelSpec, ServeConfig
from apportion.serve.models import Models

path, ram, order = sys.argv[1], int(sys.argv[2]), sys.argv[3]
specs = tuple(ModelSpec(name, path) for name in sorted(set(order)))
serving = Serving(concurrency=2, observing=True)
config = ServeConfig(specs, ctx=1024, ram=ram, serving=serving, threads=2, offline=True)
params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True, prompt_logprobs=1)
prompts = [list(range(start, start + 900)) for start in (100, 200)]

async def work():
    models, told = Models(config), []
    for name in order:
        async with models.use(name) as llm:
            done = await asyncio.to_thread(llm.generate, prompts, params)
            await asyncio.to_thread(llm.embed, prompts[:1])
            told.append([sorted(models.loaded()), done[0].token_ids])
        del llm
    peak = models.ledger.account().tiers[Tier.RAM].peak
    await models.close()
    print(json.dumps([told, peak_rss_bytes(), peak]))

asyncio.run(work())
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "random.gguf"
    make(SHAPE, path, format_by_name("q4_0"))
    return path


def played(model: Path, ram: int, order: str) -> tuple[list[list[str]], set[str], int, int]:
    """Who was in memory at each turn, the answers that came, and the peaks of process and ledger."""
    command = [sys.executable, "-c", WORK, str(model), str(ram), order]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told, peak, leased = json.loads(done.stdout.splitlines()[-1])
    return [names for names, _ in told], {str(ids) for _, ids in told}, peak, leased


def test_the_peak_stays_within_the_budget_while_models_come_and_go(model: Path) -> None:
    inside, whole, peak, leased = played(model, 4096 * MiB, "ab")
    assert inside == [["a"], ["a", "b"]]
    assert peak <= leased
    ram = leased - 35 * MiB
    inside, answers, peak, leased = played(model, ram, "abab")
    assert all(len(names) == 1 for names in inside), "one has to give way"
    assert answers == whole
    assert peak <= ram
    assert leased <= ram
