"""The facts that checks look at, gathered from this machine and from a model's headers."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from apportion.core.errors import ApportionError
from apportion.core.settings import ISA, MODELS_DIR, THREADS, get, locate
from apportion.formats import open_checkpoint
from apportion.formats.blocks import load_as
from apportion.formats.opened import OpenedFiles
from apportion.hardware.facts import Facts, ModelFacts, system_facts
from apportion.hardware.profile import Profile, load_profile
from apportion.hardware.storage import file_system
from apportion.kernels import available_isas
from apportion.kernels.native import available_threads, choose_isa
from apportion.memory import Reader
from apportion.models import config_from_checkpoint
from apportion.models.units import model_units
from apportion.plan import Planner
from apportion.plan.estimate import runtime_nbytes
from apportion.sources import resolve


def examine(model: str | None = None, root: Path = Path("/")) -> Facts:
    """The facts of this machine, and of a model that is on it.

    Args:
        model: as verbs take it; None looks at the machine alone.
        root: the folder that holds `proc` and `sys`.

    Raises:
        UsageError, NotFound, Offline: the reference names nothing on this machine, or a setting is wrong.
        BadFile, Truncated, Unsupported: it is no model that we run.
    """
    found = None if model is None else resolve(model, offline=True)
    profile, problem = _profile(found.path if found is not None else get(MODELS_DIR))
    with Reader() as reader:
        told = None
        if found is not None:
            with open_checkpoint(found.path) as checkpoint:
                told = _model(found.name, checkpoint, reader, root)
        return Facts(
            system=system_facts(root),
            ring_refusal=reader.ring_refusal,
            isas=tuple(available_isas()),
            isa=choose_isa(None),
            isa_place=locate(ISA).place,
            profile=profile,
            profile_problem=problem,
            date=datetime.now(UTC).date().isoformat(),
            model=told,
        )


def _profile(path: Path) -> tuple[Profile | None, str]:
    """What was measured on the device that a path lies on; or why there is none."""
    device = None
    with suppress(OSError):
        device = file_system(path).device
    try:
        return load_profile(device), ""
    except (ApportionError, OSError) as error:
        return None, error.what if isinstance(error, ApportionError) else str(error)


def _model(name: str, checkpoint: OpenedFiles, reader: Reader, root: Path) -> ModelFacts:
    config = config_from_checkpoint(checkpoint)
    units = model_units(config, checkpoint.tensors)
    runtime = runtime_nbytes(config, checkpoint.metadata)
    planner = Planner(config, units, runtime, get(THREADS) or available_threads(), model=name)
    refusals = [reader.direct_refusal(reader.open(path)) for path in checkpoint.files]
    matrices = (info for info in checkpoint.tensors.values() if len(info.shape) > 1)
    loads = (load_as(info.format) for info in matrices)
    return ModelFacts(
        name=name,
        file_system=file_system(checkpoint.files[0], root),
        nbytes=units.nbytes,
        smallest_budget=planner.smallest_budget,
        direct_refusal=next(filter(None, refusals), ""),
        packed=checkpoint.packed,
        has_experts=config.experts is not None,
        why_not=units.why_not,
        kept_as=tuple(dict.fromkeys(load.note for load in loads if load.growth > 1)),
    )
