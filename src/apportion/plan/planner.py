"""The planner: from a budget to a plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from apportion.core.errors import DoesNotFit, UsageError
from apportion.core.units import MiB, format_bytes, three_digits
from apportion.hardware.profile import Profile
from apportion.models.config import ModelConfig
from apportion.models.units import ModelUnits
from apportion.plan.advice import advice
from apportion.plan.arrangement import (
    RESERVE_NBYTES,
    TOKENS_PER_PASS,
    Arrangement,
    Arranger,
    Workspace,
)
from apportion.plan.cost import CostModel
from apportion.plan.estimate import workspace_of
from apportion.plan.hit_rate import HitRates, expected
from apportion.plan.machine import Machine, machine
from apportion.plan.plan import Estimate, Forecast, Plan, PolicyNames, PrefillOrder
from apportion.plan.scheduling import chosen_scheduler, company
from apportion.policies import PLACEMENTS

DEFAULT_CTX = 8192  # at most, unless asked for
COMMON_CTX = 2048  # at least, where it fits
LEAST_CTX = 256
CTX_STEP = 256
KV_SHARE = 8  # KV takes at most this part of the budget, unless a context is asked for
DEFAULT_PROMPT = 256


@dataclass(frozen=True)
class Planner:
    """Plans for one model on one machine.

    Args:
        runtime_nbytes: what the process has before it loads anything.
        threads: that compute.
        ctx: positions of the context; None lets the budget decide.
        profile: of the machine; None reckons with assumed rates.
        disk_rate: bytes that the disk reads in a second, in place of the profile's.
        concurrency: sequences that have KV at once.
        workspace: bytes that passes need, by how many tokens are under way at once; None estimates.
        hit_rates: of experts in their slots; None takes what is published for the family, or the worst case.
        prompt_tokens: length of the prompt that the forecast is for.
        policies: that the engine will use; the placement chooses which layers stay if some must stream.
        reserve_nbytes: kept free for what allocators and the interpreter round up.
        tokens_per_pass: the most tokens that pass a layer at once in prefill.
        prefill: the order of prefill where weights stream.
        advises: whether plans come with advice, which takes trying some more.

    Raises:
        UsageError: the context is out of the model's range.
    """

    config: ModelConfig
    units: ModelUnits
    runtime_nbytes: int
    threads: int
    model: str = ""
    ctx: int | None = None
    kv: str = "f16"
    profile: Profile | None = None
    disk_rate: float | None = None
    concurrency: int = 1
    workspace: Workspace | None = None
    hit_rates: HitRates | None = None
    prompt_tokens: int = DEFAULT_PROMPT
    policies: PolicyNames = field(default_factory=PolicyNames)
    reserve_nbytes: int = RESERVE_NBYTES
    tokens_per_pass: int = TOKENS_PER_PASS
    prefill: PrefillOrder = "layer_major"
    advises: bool = True

    def __post_init__(self) -> None:
        trained = self.config.context_length
        if self.ctx is not None and not 1 <= self.ctx <= trained:
            raise UsageError(
                "ctx is out of range",
                "the model was trained for a shorter context" if self.ctx > trained else "it is at least 1",
                f"choose 1 to {trained}",
                ctx=self.ctx,
                trained=trained,
            )

    def plan(self, ram: int) -> Plan:
        """The plan for a budget of `ram` bytes.

        Raises:
            DoesNotFit: it is too small; the error names the smallest that would do, and its forecast.
        """
        found = self.arranged(ram)
        if found is None:
            raise self._refused(ram)
        return self.told(found, ram)

    @cached_property
    def smallest_budget(self) -> int:
        """The smallest budget that there is a plan for, in bytes."""
        return self.arranger.least_nbytes(self._least_ctx)

    @cached_property
    def resident_budget(self) -> int:
        """The smallest budget that keeps everything in memory, with the context that was asked for or, where
        none was, one that is common.
        """
        return self.arranger.resident(self.ctx or self._common_ctx).total_nbytes

    def arranged(self, ram: int) -> Arrangement | None:
        """How `ram` bytes are divided; None where they are too few."""
        ctx = self._ctx_within(ram)
        return None if ctx is None else self.arranger.arrange(ram, ctx)

    def told(self, found: Arrangement, ram: int) -> Plan:
        """An arrangement with all that follows from it."""
        prompt = min(self.prompt_tokens, found.ctx)
        scheduler = chosen_scheduler(self.cost, found, prompt, self.policies.scheduler)
        return Plan(
            model=self.model,
            ram=ram,
            ctx=found.ctx,
            kv=found.kv,
            threads=self.threads,
            concurrency=self.concurrency,
            tokens_per_pass=found.tokens_per_pass,
            prefill=found.prefill,
            embedding=found.embedding,
            expert_slots=found.expert_slots,
            streamed_layers=found.streamed_layers,
            stream_buffers=found.stream_buffers,
            nbytes=found.nbytes,
            resident_fraction=found.resident_nbytes / self.units.nbytes,
            hit_rate=self.cost.hit_rate(found),
            hit_rate_source=self._source(found),
            disk_bytes_per_token=self.cost.disk_nbytes_per_token(found),
            forecast=self.forecast(found),
            policies=self.policies,
            scheduler=scheduler.name,
            scheduler_why=scheduler.why,
            max_running=self._max_running(found, prompt),
            advice=advice(self, found, ram) if self.advises else (),
        )

    def _max_running(self, found: Arrangement, depth: int) -> int:
        """How many requests run at once; 0, as many as have room, where nothing speaks against it."""
        if not self._streams(found):
            return 0
        most = company(self.cost, found, depth, self.concurrency)
        return most if most < self.concurrency else 0

    def _streams(self, found: Arrangement) -> bool:
        return any(
            slots < layer.num_experts
            for slots, layer in zip(found.expert_slots, self.units.layers, strict=True)
        )

    def forecast(self, found: Arrangement) -> Forecast:
        """What an arrangement's speed will be."""
        prompt = min(self.prompt_tokens, found.ctx)

        def estimate(figure: Callable[[CostModel], float]) -> Estimate:
            low, high = sorted((figure(self._slow), figure(self._fast)))
            value = figure(self.cost)
            return Estimate(value, min(low, value), max(high, value))

        return Forecast(
            decode_tok_s=estimate(lambda cost: 1 / cost.decode_s(found, prompt)),
            prefill_tok_s=estimate(lambda cost: prompt / cost.prefill_s(found, prompt)),
            ttft_s=estimate(lambda cost: cost.prefill_s(found, prompt, cold=True)),
            load_s=estimate(lambda cost: cost.load_s(found)),
            prompt_tokens=prompt,
            basis=self._machine.basis,
        )

    def decode_tok_s(self, found: Arrangement) -> float:
        """The forecast of decode alone."""
        return 1 / self.cost.decode_s(found, min(self.prompt_tokens, found.ctx))

    @cached_property
    def arranger(self) -> Arranger:
        return Arranger(
            self.config,
            self.units,
            self.runtime_nbytes,
            self.kv,
            self.concurrency,
            self.workspace or workspace_of(self.config, self.tokens_per_pass, self.concurrency),
            PLACEMENTS.choose(self.policies.placement),
            self.reserve_nbytes,
            self.tokens_per_pass,
            self.prefill,
        )

    @cached_property
    def cost(self) -> CostModel:
        return self._cost(self._machine)

    @cached_property
    def _slow(self) -> CostModel:
        return self._cost(self._machine.drifted(self._machine.disk.low))

    @cached_property
    def _fast(self) -> CostModel:
        return self._cost(self._machine.drifted(self._machine.disk.high))

    def _cost(self, rates: Machine) -> CostModel:
        return CostModel(self.config, self.units, rates, self._hit_rates)

    @cached_property
    def _machine(self) -> Machine:
        return machine(self.profile, self.threads, self.disk_rate)

    @cached_property
    def _hit_rates(self) -> HitRates:
        return self.hit_rates or expected(self.config.family)

    def _source(self, found: Arrangement) -> str:
        counts = [layer.num_experts for layer in self.units.layers]
        if not any(counts):
            return "the model has no experts"
        if list(found.expert_slots) == counts:
            return "all experts are resident"
        return self._hit_rates.source

    # --- the context ------------------------------------------------------------------------------------

    @property
    def _least_ctx(self) -> int:
        return min(self.config.context_length, LEAST_CTX) if self.ctx is None else self.ctx

    @property
    def _common_ctx(self) -> int:
        return min(self.config.context_length, COMMON_CTX)

    def _ctx_within(self, ram: int) -> int | None:
        """The context: as asked, else as much as an eighth of the budget holds, or less so that everything
        stays in memory, but not less than is common; else what fits. None where nothing does.
        """
        if ram < self.smallest_budget:
            return None
        if self.ctx is not None:
            return self.ctx
        stays = self.resident_budget <= ram
        ctx = self._roomy_ctx(ram)
        while ctx > self._least_ctx and self._least_nbytes(ctx, stays) > ram:
            ctx = max(self._least_ctx, (ctx - 1) // CTX_STEP * CTX_STEP)
        return ctx

    def _least_nbytes(self, ctx: int, stays: bool) -> int:
        """The smallest budget for this context, in which everything stays or anything may stream."""
        return self.arranger.resident(ctx).total_nbytes if stays else self.arranger.least_nbytes(ctx)

    def _roomy_ctx(self, ram: int) -> int:
        ctx = min(self.config.context_length, DEFAULT_CTX)
        while ctx > self._common_ctx and self.arranger.kv_nbytes(ctx) > ram // KV_SHARE:
            ctx = max(self._common_ctx, (ctx - 1) // CTX_STEP * CTX_STEP)
        return ctx

    # --- refusing ---------------------------------------------------------------------------------------

    def _refused(self, ram: int) -> DoesNotFit:
        smallest = self.smallest_budget
        least = self.arranged(smallest)
        assert least is not None
        speed = self.decode_tok_s(least)
        enough = f"{-(-smallest // MiB)}MiB"
        hint = f"--ram {enough} would do, with a context of {least.ctx} at about {three_digits(speed)} tok/s"
        shorter = replace(self, ctx=None) if self.ctx is not None else self
        if shorter.smallest_budget <= ram:
            fits = shorter.arranged(ram)
            hint += f"; or --ctx {fits.ctx}" if fits is not None else ""
        if self.units.why_not:
            hint += f"; packing the model first helps, for {self.units.why_not[0]}"
        return DoesNotFit(
            f"{self.model or 'the model'} does not fit into {format_bytes(ram)}",
            f"it needs {format_bytes(smallest)} at least",
            hint,
            smallest_budget=smallest,
            ram=ram,
            ctx=least.ctx,
            decode_tok_s=round(speed, 2),
        )


def make_plan(
    config: ModelConfig,
    units: ModelUnits,
    ram: int,
    *,
    runtime_nbytes: int,
    threads: int,
    model: str = "",
    ctx: int | None = None,
    kv: str = "f16",
    profile: Profile | None = None,
    disk_rate: float | None = None,
    concurrency: int = 1,
    workspace: Workspace | None = None,
    hit_rates: HitRates | None = None,
    prompt_tokens: int = DEFAULT_PROMPT,
    policies: PolicyNames | None = None,
    prefill: PrefillOrder = "layer_major",
    reserve_nbytes: int = RESERVE_NBYTES,
) -> Plan:
    """The plan for a budget of `ram` bytes, without advice; the other arguments are those of `Planner`.

    Raises:
        DoesNotFit: the budget is too small; the error names the smallest that would do, and its forecast.
        UsageError: the context is out of the model's range.
    """
    planner = Planner(
        config=config,
        units=units,
        runtime_nbytes=runtime_nbytes,
        threads=threads,
        model=model,
        ctx=ctx,
        kv=kv,
        profile=profile,
        disk_rate=disk_rate,
        concurrency=concurrency,
        workspace=workspace,
        hit_rates=hit_rates,
        prompt_tokens=prompt_tokens,
        policies=policies or PolicyNames(),
        prefill=prefill,
        advises=False,
        reserve_nbytes=reserve_nbytes,
    )
    return planner.plan(ram)
