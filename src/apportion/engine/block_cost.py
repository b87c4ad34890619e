"""What it takes on this machine to have a model's keys and values again: computed anew, or read from disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from apportion.core.settings import KV_DIR, get
from apportion.engine.budget import profile_for
from apportion.engine.loading import threads_of
from apportion.engine.prefix.cost import BlockCost
from apportion.models.units import model_units
from apportion.plan.machine import machine
from apportion.plan.planner import Planner
from apportion.policies.retention import RETENTIONS

if TYPE_CHECKING:
    from apportion.engine.assembly import Serving
    from apportion.engine.loading import LoadedModel

SHORT, LONG = 256, 2048  # prompts that the cost model is asked about


def block_cost(loaded: LoadedModel, serving: Serving) -> BlockCost:
    """The cost model's figures for the plan in force, or for all weights in memory; some figures where the
    retention asks for none.
    """
    if serving.retention == RETENTIONS.baseline:
        return BlockCost()
    threads, config = threads_of(loaded.model.ops), loaded.model.config
    units = model_units(config, loaded.checkpoint.tensors)
    profile = profile_for(loaded.checkpoint.files[0])
    planner = Planner(config, units, 0, threads, profile=profile, kv=serving.kv, advises=False)
    if loaded.apportioned is None:
        found = planner.arranger.resident(serving.ctx)
    else:
        found = planner.arranger.chosen(loaded.apportioned.plan)
    short_s = planner.cost.prefill_s(found, SHORT) / SHORT
    long_s = planner.cost.prefill_s(found, LONG) / LONG
    # Of a token: token_s + (those before it) * attended_s. Where weights stream a long prompt's are cheaper.
    attended_s = max(0.0, 2 * (long_s - short_s) / (LONG - SHORT))
    return BlockCost(
        token_s=max(0.0, short_s - attended_s * (SHORT - 1) / 2),
        attended_token_s=attended_s,
        reload_Bps=reload_rate(serving, threads),
    )


def reload_rate(serving: Serving, threads: int) -> float:
    """Bytes that the disk of stored keys and values reads in a second while threads compute."""
    folder = get(KV_DIR) if serving.kv_dir is None else Path(serving.kv_dir)
    while not folder.exists() and folder != folder.parent:  # it will be made
        folder = folder.parent
    return machine(profile_for(folder), threads).disk.best_beside
