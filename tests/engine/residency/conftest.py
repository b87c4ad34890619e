from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.core.claim import Tier
from apportion.engine.residency import Residency
from apportion.formats import open_checkpoint
from apportion.kernels import NativeOps
from apportion.memory import Ledger, ReadFault
from apportion.models import Model, config_from_checkpoint, load_model
from apportion.models.units import model_units
from apportion.plan import Estimate, Forecast, Plan, PolicyNames

NOTHING = Estimate(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Loaded:
    """A model whose weights come and go."""

    model: Model
    residency: Residency
    ledger: Ledger


Load = Callable[..., Loaded]


@pytest.fixture
def load() -> Iterator[Load]:
    """Loads a file with so many slots per layer (None: all experts stay) and these layers streamed."""
    with ExitStack() as stack:

        def make(
            path: Path,
            slots: int | None = None,
            streamed: Sequence[int] = (),
            *,
            buffers: int = 2,
            embedding: Any = "resident",
            policies: PolicyNames | None = None,
            threads: int = 2,
            faults: Sequence[ReadFault] = (),
            stuck_after_s: float = 30.0,
        ) -> Loaded:
            checkpoint = stack.enter_context(open_checkpoint(path))  # type: ignore[arg-type]
            config = config_from_checkpoint(checkpoint)
            units = model_units(config, checkpoint.tensors)
            counts = [layer.num_experts for layer in units.layers]
            plan = Plan(
                model="tiny",
                ram=1 << 30,
                ctx=64,
                kv="f16",
                threads=threads,
                concurrency=1,
                tokens_per_pass=512,
                prefill="layer_major",
                embedding=embedding,
                expert_slots=tuple(count if slots is None else min(slots, count) for count in counts),
                streamed_layers=tuple(streamed),
                stream_buffers=buffers,
                nbytes={},
                resident_fraction=0.0,
                hit_rate=0.0,
                hit_rate_source="",
                disk_bytes_per_token=0,
                forecast=Forecast(NOTHING, NOTHING, NOTHING, NOTHING, 0, ""),
                policies=policies or PolicyNames(),
            )
            ledger = Ledger({Tier.RAM: plan.ram})
            residency = Residency(
                config,
                units,
                plan,
                checkpoint.files,
                ledger,
                threads,
                faults=faults,
                stuck_after_s=stuck_after_s,
            )
            stack.callback(residency.close)
            model = load_model(checkpoint, NativeOps(threads=threads), residency=residency)
            return Loaded(model, residency, ledger)

        yield make


def whole(path: Path) -> Model:
    """The same model with all weights in memory."""
    with open_checkpoint(path) as checkpoint:  # type: ignore[attr-defined]
        return load_model(checkpoint, NativeOps(threads=2))


def logits_of(model: Model, prompt: int = 40, steps: int = 12) -> np.ndarray[Any, Any]:
    """Of a prompt's tokens and of the steps after it, each of which takes the likeliest token."""
    rng = np.random.default_rng(5)
    ids = rng.integers(0, model.config.vocab_size, prompt).astype(np.int32)
    cache = model.new_cache(prompt + steps)
    rows = [model.forward(ids, cache, logits="all")]
    for _ in range(steps):
        rows.append(model.forward(rows[-1][-1:].argmax(axis=1).astype(np.int32), cache))
    return np.concatenate(rows)


@pytest.fixture(scope="session")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("olmoe", tmp_path_factory.mktemp("moe"), block_format="q8_0")


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf("llama", tmp_path_factory.mktemp("dense"), block_format="q8_0")
